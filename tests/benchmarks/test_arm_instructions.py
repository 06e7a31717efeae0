"""The counts of ``benchmarks/arm_instructions.py`` are compared and shown; counting itself needs qemu and minutes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "arm_instructions.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("arm_instructions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BEFORE = {"net:ours": {"cortex-a72": 100e6, "cortex-a76": 50e6}}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"net:ours": {"cortex-a72": 101.9e6, "cortex-a76": 20e6}}, []),
        (
            {"net:ours": {"cortex-a72": 103e6, "cortex-a76": 50e6}},
            ["net:ours on cortex-a72: 103.0 million, before 100.0 (1.030x)"],
        ),
        ({"net:ours": {"cortex-a72": 100e6}}, ["net:ours on cortex-a76 was not counted"]),
        ({}, ["net:ours on cortex-a72 was not counted", "net:ours on cortex-a76 was not counted"]),
    ],
)  # fmt: skip
def test_check_tells_which_counts_have_grown(
    script: Any, now: Any, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert script.grown(now, BEFORE, 0.02) == told
    for name, counts in (("now", now), ("before", BEFORE)):
        (tmp_path / name).write_text(json.dumps(counts))
    monkeypatch.setattr(sys, "argv", ["a", "check", str(tmp_path / "now"), "--against", str(tmp_path / "before")])
    assert script.main() == bool(told)
    assert capsys.readouterr().out == "\n".join(told or ["no count has grown"]) + "\n"


def test_the_table_has_a_column_for_each_processor(script: Any) -> None:
    counts = {**BEFORE, "other:stock": {"cortex-a76": 1.25e6}}
    assert script.table(counts).splitlines() == [
        "| network | file | cortex-a72 | cortex-a76 |",
        "| --- | --- | --- | --- |",
        "| net | ours | 100.0 | 50.0 |",
        "| other | stock | - | 1.2 |",
    ]


def test_the_plugin_compiles(script: Any, tmp_path: Path) -> None:
    try:
        assert script.build_plugin(tmp_path).stat().st_size > 1000
    except SystemExit as error:
        pytest.skip(str(error))
