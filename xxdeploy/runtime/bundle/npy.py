"""Arrays in a bundle: NumPy's .npy 1.0, of two types, in C order, never a pickle."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import BundleError

_DTYPES = (np.dtype("u1"), np.dtype("<f4"))


def npy_from_array(array: NDArray[Any]) -> bytes:
    """Serialize uint8 or float32; equal arrays give equal bytes on every machine."""
    dtype = next((known for known in _DTYPES if array.dtype.newbyteorder("<") == known), None)
    if dtype is None:
        raise ValueError(f"a bundle holds uint8 and float32 arrays, not {array.dtype}")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array, dtype), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def array_from_npy(data: bytes, name: str) -> NDArray[Any]:
    """Read uint8 or float32. The claimed shape must account for every byte, so it cannot ask for memory.

    Raises
    ------
    BundleError
        ``array-invalid``; ``name`` says which file.
    """
    buffer = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(buffer)
        if version != (1, 0):
            raise ValueError(f".npy version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(buffer)
        if fortran or dtype not in _DTYPES or any(side < 0 for side in shape):
            raise ValueError(f"shape {shape}, type {dtype}, fortran {fortran}")
        if math.prod(shape) * dtype.itemsize != len(data) - buffer.tell():
            raise ValueError(f"shape {shape} does not account for {len(data)} bytes")
        return np.frombuffer(data, dtype, offset=buffer.tell()).reshape(shape)
    except Exception as error:  # the header is a Python literal, whose parser raises nearly anything
        raise BundleError(
            f"{name} is not a .npy file of a bundle: {str(error)[:200]}",
            hint="export the bundle again",
            code="array-invalid",
        ) from error
