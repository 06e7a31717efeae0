"""The small files of a bundle: arrays (.npy) of the self-test, and class names."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.strict_json import CONTROL

_DTYPES = (np.dtype("u1"), np.dtype("<f4"))
MAX_LABEL = 1000
"""Characters of a class name."""


def npy_from_array(array: NDArray[Any]) -> bytes:
    """Serialize uint8 or float32; equal arrays give equal bytes on every machine."""
    dtype = next((known for known in _DTYPES if array.dtype.newbyteorder("<") == known), None)
    if dtype is None:
        raise ValueError(f"a bundle holds uint8 and float32 arrays, not {array.dtype}")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array, dtype), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def array_from_npy(data: bytes, name: str) -> NDArray[Any]:
    """Read uint8 or float32 from the file ``name``; ``BundleError`` ``array-invalid``.

    The claimed shape must account for every byte, so it cannot ask for memory.
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


def text_from_labels(names: Sequence[str], *, characters: bool = False) -> bytes:
    """Serialize; line n is the name of class n. Arguments and errors as in :func:`labels_from_text`."""
    text = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogatepass")
    labels_from_text(text, len(names), characters=characters)
    return text


def labels_from_text(data: bytes, classes: int, *, characters: bool = False) -> tuple[str, ...]:
    """Read the names of ``classes`` classes. Two classes may share a name: ImageNet has two cranes.

    With ``characters`` a name may be a space: the classes are the characters of a text.
    ``BundleError`` ``labels-invalid``: no UTF-8, another number of lines, an empty or overlong name, control characters
    (names end up on terminals).
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong_labels(f"it is not UTF-8: {error}") from error
    names = tuple(text.removesuffix("\n").split("\n")) if text else ()
    if len(names) != classes:
        raise _wrong_labels(f"it has {len(names)} names for {classes} classes")
    for number, name in enumerate(names):
        if not (name if characters else name.strip()) or len(name) > MAX_LABEL or CONTROL.search(name):
            raise _wrong_labels(
                f"the name of class {number} is empty, too long or has control characters: {name[:80]!r}"
            )
    return names


def _wrong_labels(message: str) -> BundleError:
    return BundleError(
        f"the labels file is wrong: {message}", hint="export again with one class name a line", code="labels-invalid"
    )
