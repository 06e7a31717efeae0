from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.verify.outputs import are_probabilities, cosines, kl_divergence, labels_of_batch, run_finite, scores

F32 = NDArray[np.float32]
IMAGES = np.zeros((2, 4, 4, 3), np.float32)


class Fixed:
    """A runner with the same output for every batch."""

    name = "onnx-int8"

    def __init__(self, output: object) -> None:
        self._output = np.asarray(output, np.float32)

    def run(self, _batch: F32) -> F32:
        return self._output


def test_features_become_one_row_an_image() -> None:
    assert run_finite(Fixed(np.ones((2, 3, 3, 5))), IMAGES, 0).shape == (2, 45)


@pytest.mark.parametrize("output", [[1.0, 2.0], [[1.0, 2.0]], np.zeros((2, 0))])
def test_an_output_needs_a_row_for_each_image(output: object) -> None:
    with pytest.raises(VerificationError, match="for a batch of 2 images") as caught:
        run_finite(Fixed(output), IMAGES, 0)
    assert caught.value.code == "output-shape"


def test_a_value_that_is_not_finite_names_its_image() -> None:
    with pytest.raises(VerificationError) as caught:
        run_finite(Fixed([[1.0, 2.0], [3.0, np.inf]]), IMAGES, 8)
    assert caught.value.code == "non-finite-output"
    assert caught.value.message == "onnx-int8 gave inf for image 10 (value 1 of 2)"


def test_labels_are_classes_of_the_model() -> None:
    assert labels_of_batch([3, 1, 4], 1, 2, 5).tolist() == [1, 4]
    with pytest.raises(UsageError, match="image 3 has class 4") as caught:
        labels_of_batch([3, 1, 4], 1, 2, 4)
    assert caught.value.code == "label-range"
    with pytest.raises(ValueError, match="3 labels for at least 4 images"):
        labels_of_batch([3, 1, 4], 2, 2, 5)


def test_distances_by_hand() -> None:
    half, quarter = np.array([[0.5, 0.5]], np.float32), np.array([[0.25, 0.75]], np.float32)
    assert are_probabilities(half)
    assert not are_probabilities(half * np.float32(1.01))
    assert not are_probabilities(np.array([[-0.5, 1.5]], np.float32))
    assert kl_divergence(half, half)[0] == 0.0
    assert kl_divergence(half, quarter)[0] == pytest.approx(0.5 * np.log(4 / 3))
    assert scores(half)[0].tolist() == [0.0, 0.0]
    assert scores(quarter)[0, 1] - scores(quarter)[0, 0] == pytest.approx(np.log(3))


def test_the_cosine_of_zeros() -> None:
    left, right = np.array([[1, 0], [0, 0], [0, 0], [3, 4]], np.float32), np.array([[0, 1], [0, 0], [1, 0], [6, 8]])
    assert cosines(left, right).tolist() == [0.0, 1.0, 0.0, 1.0]
