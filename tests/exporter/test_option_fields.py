from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from xxdeploy.errors import UsageError
from xxdeploy.exporter.option_fields import check_choice, flag_of, given_in, option, options_in, words_of


@dataclass(frozen=True, slots=True)
class Drink:
    size_ml: int | None = option(None, "Size.")
    hot: bool = option(False, "Hot.", precisions=("int8",))
    kind: Literal["tea", "coffee"] | None = option(None, "Kind.", name="sort")
    label: str = option("plain", "Label.", suffixes=(".png",))
    cups: tuple[str, ...] = option((), "Cups.")
    tray: Path | None = option(None, "Tray.")


def test_a_field_is_an_option() -> None:
    by_name = {declared.name: declared for declared in options_in(Drink)}
    assert list(by_name) == ["size-ml", "hot", "sort", "label", "cups", "tray"]
    assert [declared.kind for declared in by_name.values()] == [int, bool, str, str, tuple, Path]
    assert by_name["sort"].field == "kind"
    assert (by_name["hot"].accepted_by("int8"), by_name["hot"].accepted_by("fp32")) == (True, False)
    assert [by_name["label"].names_file(text) for text in ("a.PNG", "plain")] == [True, False]
    assert by_name["tray"].names_file("anything")
    assert not by_name["sort"].names_file("tea")


def test_only_given_options_become_words() -> None:
    drink = Drink(size_ml=0, hot=True, cups=("a b", "-c"), tray=Path("t"))
    given = {declared.name: value for declared, value in given_in((drink, Drink())).items()}
    assert words_of(given) == ["--size-ml=0", "--hot", "--cups=a b", "--cups=-c", "--tray=t"]
    assert words_of({"hot": False}) == []


def test_a_choice() -> None:
    check_choice(Drink(kind="tea"), "kind", code="unknown-kind")
    with pytest.raises(UsageError) as caught:
        check_choice(Drink(kind="milk"), "kind", code="unknown-kind")  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.hint) == ("unknown-kind", "--sort tea|coffee")


def test_the_flag_of_a_precision() -> None:
    assert [flag_of(precision) for precision in ("fp32", "int8")] == [{}, {"int8": True}]
    with pytest.raises(UsageError) as caught:
        flag_of("fp64")
    assert caught.value.code == "unknown-precision"
