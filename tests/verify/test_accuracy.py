from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.results import Progress
from xxdeploy.verify import evaluate


class Echo:
    """A runner whose scores for an image are the image's own values."""

    name = "echo"

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch.reshape(len(batch), -1)


def batches(scores: object, size: int = 2) -> Iterator[NDArray[np.float32]]:
    rows = np.asarray(scores, np.float32)
    for first in range(0, len(rows), size):
        yield rows[first : first + size, None, None, :]


def test_top1_and_top5_by_hand() -> None:
    scores = np.eye(8)[[0, 1, 2, 3]] * 9 + np.arange(8, 0, -1)  # best is the diagonal, then 0, 1, 2...
    accuracy = evaluate(Echo(), batches(scores), [0, 4, 7, 0])
    # right; fifth of 1 0 2 3 4; last of all; second
    assert (accuracy.top1, accuracy.top5) == (1 / 4, 3 / 4)
    assert accuracy.classes == (0, 1, 2, 3)
    assert (accuracy.runner, accuracy.images) == ("echo", 4)


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_batch_sizes_do_not_matter(size: int) -> None:
    rng = np.random.default_rng(5)
    scores, labels = rng.random((50, 10)), [int(i) for i in rng.integers(0, 10, 50)]
    assert evaluate(Echo(), batches(scores, size), labels) == evaluate(Echo(), batches(scores, 50), labels)


def test_ties_go_to_the_lowest_class() -> None:
    scores = [[1, 1, 1, 1, 1, 1, 1]] * 3
    accuracy = evaluate(Echo(), batches(scores), [0, 4, 5])
    assert accuracy.classes == (0, 0, 0)
    assert (accuracy.top1, accuracy.top5) == (1 / 3, 2 / 3)


def test_fewer_than_five_classes() -> None:
    accuracy = evaluate(Echo(), batches([[1, 0], [1, 0]]), [0, 1])
    assert (accuracy.top1, accuracy.top5) == (0.5, 1.0)


def test_without_labels_only_the_classes_are_noted() -> None:
    accuracy = evaluate(Echo(), batches([[0, 1], [1, 0]]), None)
    assert (accuracy.top1, accuracy.top5, accuracy.classes) == (None, None, (1, 0))


def test_progress_counts_images_of_the_labels() -> None:
    seen: list[Progress] = []
    evaluate(Echo(), batches([[0, 1]] * 3), [1, 1, 1], on_progress=seen.append)
    assert seen == [Progress("accuracy echo", 2, 3), Progress("accuracy echo", 3, 3)]


def test_no_images() -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(Echo(), [], [])
    assert caught.value.code == "no-images"


@pytest.mark.parametrize("label", [-1, 2, 999])
def test_labels_of_another_data_set(label: int) -> None:
    with pytest.raises(UsageError, match=f"image 3 has class {label}, but the model has 2 classes") as caught:
        evaluate(Echo(), batches([[0, 1]] * 3), [0, 1, label])
    assert caught.value.code == "label-range"


@pytest.mark.parametrize("count", [2, 4])
def test_labels_must_be_as_many_as_images(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} labels for"):
        evaluate(Echo(), batches([[0, 1]] * 3), [0] * count)


def test_non_finite_scores_fail() -> None:
    with pytest.raises(VerificationError) as caught:
        evaluate(Echo(), batches([[0, 1], [np.nan, 1]]), None)
    assert caught.value.code == "non-finite-output"
