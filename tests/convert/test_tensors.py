"""Tensors in memory of numpy: their values, and that TensorFlow makes no copy."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.convert.keras_loader import load_keras, load_tensorflow
from xxdeploy.convert.tensors import cast, view, zeros


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (3, 5, 2)])
def test_values_shape_and_type(shape: tuple[int, ...]) -> None:
    load_keras()
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert zeros(shape).dtype == "float32"
    np.testing.assert_array_equal(zeros(shape).numpy(), np.zeros(shape, np.float32))
    assert cast(array, np.float64).dtype == "float64"
    np.testing.assert_array_equal(cast(array, np.float64).numpy(), array.astype(np.float64))


def test_a_variable_of_zeros_takes_its_own_values_later() -> None:
    tf = load_tensorflow()
    first, second = tf.Variable(zeros((4, 3))), tf.Variable(zeros((4, 3)))
    first.assign(np.ones((4, 3), np.float32))
    np.testing.assert_array_equal(view(first), np.ones((4, 3)))
    np.testing.assert_array_equal(view(second), np.zeros((4, 3)))


def test_no_value_is_copied() -> None:
    tensor = zeros((1 << 16,))
    memory = view_of(tensor)
    assert memory.ctypes.data % 64 == 0
    assert memory.ctypes.data == view_of(tensor).ctypes.data


def view_of(tensor: object) -> np.ndarray:
    """The memory of a tensor itself."""
    return np.asarray(memoryview(tensor))  # type: ignore[arg-type]


def test_a_type_that_python_does_not_know_is_copied() -> None:
    tf = load_tensorflow()
    assert view(tf.Variable([1.5, 2.5], dtype=tf.bfloat16)).astype(np.float32).tolist() == [1.5, 2.5]
