"""The best classes: their order, ties, and how many."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.errors import UsageError
from xxdeploy.runtime.postprocess import FEW, Prediction, top_predictions

LABELS = ("a", "b", "c", "d")


def test_best_first_and_ties_by_index() -> None:
    row = np.array([0.2, 0.3, 0.2, 0.3], np.float32)
    assert [p.index for p in top_predictions(row, LABELS, 4)] == [1, 3, 0, 2]
    assert top_predictions(row, LABELS, 1) == (Prediction(1, "b", float(np.float32(0.3))),)
    assert len(top_predictions(row, LABELS, 99)) == 4


@pytest.mark.parametrize("classes", [5, FEW, FEW + 1, 1000])
def test_ties_keep_their_order_with_few_and_with_many_classes(classes: int) -> None:
    row = (np.random.default_rng(classes).integers(0, 4, classes) / 4).astype(np.float32)
    expected = np.argsort(-row, kind="stable")[:5].tolist()
    assert [each.index for each in top_predictions(row, [str(index) for index in range(classes)], 5)] == expected


@pytest.mark.parametrize("top", [0, -1])
def test_top_below_one(top: int) -> None:
    with pytest.raises(UsageError) as caught:
        top_predictions(np.zeros(4, np.float32), LABELS, top)
    assert caught.value.code == "top-invalid"


def test_another_number_of_labels_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="labels"):
        top_predictions(np.zeros(3, np.float32), LABELS, 1)
