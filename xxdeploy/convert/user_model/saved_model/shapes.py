"""Computations of shapes in a graph: their values where they are known, and operations that need none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.user_model.saved_model.program import Operation, call

_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Div": np.divide,
    "Floor": np.floor,
    "FloorDiv": np.floor_divide,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Sub": np.subtract,
}
_DEEPEST = 40


def static_value(tensor: Any, depth: int = 0) -> NDArray[Any] | None:
    """Return the value of a tensor that depends on constants and on known sizes only, else None.

    ``tf.get_static_value`` knows no arithmetic and no slices of shapes.
    """
    import tensorflow as tf

    known = tf.get_static_value(tensor)
    if known is not None:
        return np.asarray(known)
    if depth > _DEEPEST or not hasattr(tensor, "graph"):
        return None
    operation = tensor.op
    if operation.type == "StridedSlice" and operation.inputs[0].op.type == "Shape":
        return _sliced(operation)
    if operation.type == "Cast":
        inner = static_value(operation.inputs[0], depth + 1)
        return None if inner is None else inner.astype(tensor.dtype.as_numpy_dtype)
    if operation.type not in _ARITHMETIC and operation.type != "Pack":
        return None
    values = [static_value(part, depth + 1) for part in operation.inputs]
    if any(value is None for value in values):
        return None
    if operation.type == "Pack":
        return np.stack(values, axis=operation.get_attr("axis"))  # type: ignore[arg-type]
    return np.asarray(_ARITHMETIC[operation.type](*values), tensor.dtype.as_numpy_dtype)


def _sliced(operation: Any) -> NDArray[Any] | None:
    """Return a slice of the shape of a tensor, if the sizes in it are known."""
    shape = operation.inputs[0].op.inputs[0].shape
    begin, end, stride = (static_value(part) for part in operation.inputs[1:])
    if shape.rank is None or begin is None or end is None or stride is None or len(begin) != 1:
        return None
    masks = {name: operation.get_attr(name) for name in ("begin_mask", "end_mask", "shrink_axis_mask", "ellipsis_mask")}
    if masks["ellipsis_mask"] or operation.get_attr("new_axis_mask"):
        return None
    sizes = list(shape)
    if masks["shrink_axis_mask"]:
        size = sizes[int(begin[0])]
        return None if size is None else np.asarray(size, np.int32)
    first, last = None if masks["begin_mask"] else int(begin[0]), None if masks["end_mask"] else int(end[0])
    part = sizes[first : last : int(stride[0])]
    return None if None in part else np.asarray(part, np.int32)


def reshape(tf: Any, operation: Operation, tensors: list[Any]) -> list[Any] | None:
    """Reshape by constants where at most one size is unknown, and not at all where a reshape is undone.

    A dense layer over height and width (reshape to a matrix, multiply, reshape back) becomes a 1x1 convolution, which
    stays in the layout of its neighbors.
    """
    plain = call(tf, operation, tensors, tf.float32)[0]
    if plain.shape.rank is None or list(plain.shape).count(None) > 1 or 0 in plain.shape:
        return [plain]
    shape, x = list(plain.shape), tensors[0]
    sizes = [-1 if size is None else size for size in shape]
    if not hasattr(x, "graph"):
        return [tf.reshape(x, sizes)]
    before = x.op.inputs[0] if x.op.type == "Reshape" else None
    if before is not None and before.shape.rank is not None:
        return [before if list(before.shape) == shape else tf.reshape(before, sizes)]
    dense = _as_convolution(tf, x, shape)
    return [tf.reshape(x, sizes) if dense is None else dense]


def _as_convolution(tf: Any, product: Any, shape: list[int | None]) -> Any | None:
    """Return a 1x1 convolution for the product of a reshaped (n, height, width, channels) tensor and weights."""
    if product.op.type != "MatMul" or product.op.get_attr("transpose_a") or product.op.get_attr("transpose_b"):
        return None
    rows, kernel = product.op.inputs
    if rows.op.type != "Reshape" or kernel.op.type not in ("Placeholder", "Const") or len(shape) != 4:
        return None
    source = rows.op.inputs[0]
    if source.shape.rank != 4 or list(source.shape)[:3] != shape[:3] or source.shape[3] != kernel.shape[0]:
        return None
    return tf.nn.conv2d(source, tf.reshape(kernel, (1, 1, *kernel.shape)), 1, "VALID")


def reverse(_: Any, __: Operation, tensors: list[Any]) -> list[Any] | None:
    """Write the reversal along known axes as a slice with a negative step."""
    axes = static_value(tensors[1])
    if axes is None or tensors[0].shape.rank is None:
        return None
    turned = {int(axis) % tensors[0].shape.rank for axis in axes.reshape(-1)}
    places = range(tensors[0].shape.rank)
    return [tensors[0][tuple(slice(None, None, -1 if axis in turned else None) for axis in places)]]
