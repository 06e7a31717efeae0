from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from xxdeploy.cli.output import megabytes, milliseconds, plain, print_facts, print_json, print_line, print_table
from xxdeploy.figures import percent

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True, slots=True)
class Inner:
    path: Path
    value: float


@dataclass(frozen=True, slots=True)
class Outer:
    items: tuple[Inner, ...]
    names: frozenset[str]


def test_results_become_plain_json(capsys: Capture) -> None:
    print_json(Outer((Inner(Path("a/b"), float("inf")), Inner(Path("c"), 0.25)), frozenset("yx")))
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "items": [{"path": "a/b", "value": None}, {"path": "c", "value": 0.25}],
        "names": ["x", "y"],
    }
    assert out.endswith("}\n")


def test_json_is_ascii(capsys: Capture) -> None:
    print_json({"label": "Çœur"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"label": "Çœur"}


def test_mappings_have_text_keys() -> None:
    assert plain({1: float("nan"), "b": [True, None]}) == {"1": None, "b": [True, None]}


def test_tables_are_not_folded_in_a_pipe(capsys: Capture) -> None:
    print_table(("image", "p"), [("x" * 200, "1.0"), ("y", "10.0")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "p"]
    assert lines[2] == "x" * 200 + "   1.0"
    assert lines[3] == "y" + " " * 199 + "  10.0"
    assert len(lines) == 4


def test_text_is_printed_as_it_is(capsys: Capture) -> None:
    print_table(("a",), [("[red]x[/red] :smile: 1.5",)])
    print_line("[bold]x[/bold]")
    print_facts({"[a]": "[/b]"})
    out = capsys.readouterr().out
    for text in ("[red]x[/red] :smile: 1.5", "[bold]x[/bold]", "[a]", "[/b]"):
        assert text in out


def test_escape_sequences_are_not(capsys: Capture) -> None:
    print_table(("a",), [("\x1b[31mred\x1b[0m\tx",)])
    assert "\\x1b[31mred\\x1b[0m\\tx" in capsys.readouterr().out


def test_facts_have_no_trailing_spaces(capsys: Capture) -> None:
    print_facts({"a": "one\ntwo", "name": "", "b": "three"})
    assert capsys.readouterr().out == "a     one\n      two\nname\nb     three\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.795), "79.5"),
        (percent(1.0), "100.0"),
        (percent(None), "-"),
        (megabytes(14_234_567), "14.2 MB"),
        (megabytes(100_000), "0.1 MB"),
        (megabytes(99_949), "99.9 kB"),
        (megabytes(0), "0.0 kB"),
        (megabytes(None), "-"),
        (milliseconds(3.456), "3.46 ms"),
        (milliseconds(123.456), "123.5 ms"),
        (milliseconds(None), "-"),
    ],
)
def test_figures(text: str, expected: str) -> None:
    assert text == expected
