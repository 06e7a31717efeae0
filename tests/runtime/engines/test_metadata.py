"""The best classes of a model, laid out over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.runtime.engines.metadata import TopK, same_but_unlisted

VALUES = np.array([[0.5, 0.3], [0.9, 0.1]], np.float32)
CLASSES = np.array([[4, 0], [1, 2]], np.int64)


def test_what_is_left_is_shared() -> None:
    whole = TopK(6).spread(VALUES, CLASSES)
    assert whole.dtype == np.float32
    assert np.allclose(whole, [[0.3, 0.05, 0.05, 0.05, 0.5, 0.05], [0, 0.9, 0.1, 0, 0, 0]])
    assert np.array_equal(TopK(2).spread(VALUES[:1], np.array([[1, 0]])), VALUES[:1, ::-1])


def test_the_order_holds_even_where_values_are_no_probabilities() -> None:
    scores = np.array([[-1.0, -2.0], [7.0, 3.0]], np.float32)
    whole = TopK(4).spread(scores, np.array([[2, 1], [0, 3]], np.int64))
    assert np.array_equal(whole, [[-2, -2, -1, -2], [7, 0, 0, 3]])


def test_a_class_that_there_is_not() -> None:
    with pytest.raises(IndexError):
        TopK(3).spread(VALUES, CLASSES)


def test_unlisted_classes_may_be_anything_up_to_the_least() -> None:
    expected = np.array([[0.3, 0.19, 0.01, 0, 0.5, 0]], np.float32)
    spread = TopK(6).spread(VALUES[:1], CLASSES[:1])
    assert np.array_equal(same_but_unlisted(spread, expected, 2), expected)
    another = np.array([[0.25, 0.45, 0.0, 0, 0.3, 0]], np.float32)  # class 1 should have been listed
    told = same_but_unlisted(spread, another, 2)
    assert np.abs(told - another).max() == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", '{"classes": "3"}', '{"classes": 0}', '{"classes": 1e9}', "nan"]
)
def test_damaged_metadata(text: str | None) -> None:
    assert TopK.parse(text) is None
    assert TopK.parse('{"classes": 3}') == TopK(3)
