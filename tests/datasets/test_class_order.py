"""Orders of class folders."""

from __future__ import annotations

import pytest

from xxdeploy.datasets.class_order import class_orders, numeric_order, ordered
from xxdeploy.errors import UsageError


def test_ten_folders_have_one_order() -> None:
    names = [str(number) for number in range(10)]
    assert class_orders(names) == {"text": tuple(names)}
    assert ordered(names, None, "val") == (tuple(names), None)


def test_numbers_sort_in_two_ways() -> None:
    assert class_orders(["2", "10", "1"]) == {"text": ("1", "10", "2"), "numeric": ("1", "2", "10")}
    assert class_orders(["n02", "n10"]) == {"text": ("n02", "n10")}


@pytest.mark.parametrize("names", [["cat", "dog"], ["1", "cat"], ["1 a", "1 b"], ["a1", "b10"], ["\u0661", "1"], []])
def test_what_is_not_numbered(names: list[str]) -> None:
    assert numeric_order(names) is None
    assert class_orders(names) == {"text": tuple(sorted(names))}
    with pytest.raises(UsageError) as caught:
        ordered(names, "numeric", "val")
    assert caught.value.code == "class-order"


def test_a_guess_is_said() -> None:
    names, note = ordered(["1", "2", "10"], None, "val")
    assert names == ("1", "10", "2")
    assert note is not None
    assert "class 1 is '10'" in note
    assert ordered(["1", "2", "10"], "text", "val") == (names, None)
    assert ordered(["1", "2", "10"], "numeric", "val") == (("1", "2", "10"), None)
