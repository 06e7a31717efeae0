"""Tensors of TensorFlow in memory of numpy.

TensorFlow's oneDNN allocator never returns memory to the system, and TensorFlow copies an array that it is given. It
uses an array that comes by DLPack, at an address that it likes, as it is; numpy frees it when the tensor goes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_ALIGNMENT = 64
"""Bytes. TensorFlow copies an array at another address."""


def zeros(shape: Sequence[int], dtype: DTypeLike = np.float32) -> Any:
    """Return a tensor of zeros that takes no memory: its pages are those of the system until somebody writes them."""
    return _tensor(_empty(shape, dtype))


def view(variable: Any) -> NDArray[Any]:
    """Return the value of a TensorFlow variable, without a copy if its dtype has a Python buffer."""
    try:
        return np.asarray(memoryview(variable.read_value()))
    except (TypeError, ValueError, AttributeError, BufferError):  # bfloat16, another kind of variable
        return np.asarray(variable)


def cast(array: NDArray[Any], dtype: DTypeLike) -> Any:
    """Return a tensor with the values of ``array`` in another type."""
    copy = _empty(array.shape, dtype)
    copy[...] = array
    return _tensor(copy)


def _empty(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros at an address that TensorFlow likes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _tensor(array: NDArray[Any]) -> Any:
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
