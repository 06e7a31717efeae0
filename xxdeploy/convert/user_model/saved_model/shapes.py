"""Computations of shapes in a graph: their values where they are known, and operations that need none of them."""

from __future__ import annotations

import math
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
_DEEPEST = 60


def static_value(tensor: Any) -> NDArray[Any] | None:
    """Return the value of a tensor that depends on constants and on known sizes only, else None.

    ``tf.get_static_value`` knows no arithmetic and no slices of shapes.
    """
    return _Evaluation(None).value(tensor)


def static_shape(tensor: Any, x: Any) -> list[int] | None:
    """Return the shape in a tensor of sizes, for reshaping ``x``, with -1 for the size that grows with the batch.

    None if it is not known. The sizes are computed for batches of 2 and of 3: those that differ belong to the batch.
    """
    first = _Evaluation(2)
    two, three = first.value(tensor), _Evaluation(3).value(tensor)
    if two is None or three is None or two.shape != three.shape or two.ndim != 1:
        return None
    sizes = [int(left) if left == right else -1 for left, right in zip(two, three, strict=True)]
    asked = two.tolist().index(-1) if -1 in two else None  # the size that the model leaves to TensorFlow
    if asked is not None and sizes.count(-1) == 2 and first.unknown == x.name and None not in x.shape[1:]:
        total, others = math.prod(x.shape[1:]), math.prod(size for size in sizes if size > 0)
        grows = next(index for index, size in enumerate(sizes) if size < 0 and index != asked)
        if (two[grows], three[grows]) == (2, 3) and others and total % others == 0:
            sizes[asked] = total // others
    return None if sizes.count(-1) > 1 or 0 in sizes else sizes


class _Evaluation:
    """Computes integers of a graph with numpy. ``batch`` stands for the unknown first size of one tensor.

    A second tensor of unknown size may have another one, so a value that reads both is not known.
    """

    def __init__(self, batch: int | None) -> None:
        self._batch, self.unknown = batch, ""

    def value(self, tensor: Any, depth: int = 0) -> NDArray[Any] | None:
        import tensorflow as tf

        known = tf.get_static_value(tensor)
        if known is not None:
            return np.asarray(known)
        if depth > _DEEPEST or not hasattr(tensor, "graph"):
            return None
        operation = tensor.op
        if operation.type == "Shape":
            return self._sizes(operation.inputs[0])
        if operation.type == "StridedSlice" and operation.inputs[0].op.type == "Shape" and self._batch is None:
            return _sliced(list(operation.inputs[0].op.inputs[0].shape), operation)
        if operation.type not in _ARITHMETIC and operation.type not in _MOVING:
            return None
        values = [self.value(part, depth + 1) for part in operation.inputs]
        if any(value is None for value in values):
            return None
        if operation.type in _MOVING:
            moved = _MOVING[operation.type](operation, *values)
            return None if moved is None else np.asarray(moved, tensor.dtype.as_numpy_dtype)
        return np.asarray(_ARITHMETIC[operation.type](*values), tensor.dtype.as_numpy_dtype)

    def _sizes(self, tensor: Any) -> NDArray[Any] | None:
        shape = tensor.shape
        if shape.rank is None or None in shape[1:] or (shape[0] is None and self._batch is None):
            return None
        if shape[0] is None:
            if self.unknown not in ("", tensor.name):
                return None
            self.unknown = tensor.name
        return np.asarray([self._batch if size is None else size for size in shape], np.int32)


def _sliced(sizes: list[int | None], operation: Any) -> NDArray[Any] | None:
    """Return a slice of sizes, if those in it are known."""
    begin, end, stride = (static_value(part) for part in operation.inputs[1:])
    masks = {name: operation.get_attr(name) for name in ("ellipsis_mask", "new_axis_mask")}
    if begin is None or end is None or stride is None or len(begin) != 1 or any(masks.values()):
        return None
    if operation.get_attr("shrink_axis_mask"):
        size = sizes[int(begin[0])]
        return None if size is None else np.asarray(size, np.int32)
    first = None if operation.get_attr("begin_mask") else int(begin[0])
    last = None if operation.get_attr("end_mask") else int(end[0])
    part = sizes[first : last : int(stride[0])]
    return None if None in part else np.asarray(part, np.int32)


def _product(operation: Any, x: NDArray[Any], axes: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.prod(x, axis=tuple(axes.reshape(-1).tolist()), keepdims=operation.get_attr("keep_dims")))


_MOVING: Mapping[str, Callable[..., Any]] = {
    "Cast": lambda _, x: x,
    "ConcatV2": lambda _, *parts: np.concatenate(parts[:-1], axis=int(parts[-1])),
    "ExpandDims": lambda _, x, axis: np.expand_dims(x, int(axis)),
    "GatherV2": lambda _, x, places, axis: np.take(x, places, axis=int(axis)),
    "Pack": lambda operation, *parts: np.stack(parts, axis=operation.get_attr("axis")),
    "Prod": _product,
    "Reshape": lambda _, x, shape: x.reshape(shape),
    "StridedSlice": lambda operation, x, *_: _sliced(x.tolist(), operation) if x.ndim == 1 else None,
}


def reshape(tf: Any, operation: Operation, tensors: list[Any]) -> list[Any] | None:
    """Reshape by constants where at most one size is unknown, and not at all where a reshape is undone.

    A dense layer over height and width (reshape to a matrix, multiply, reshape back) becomes a 1x1 convolution, which
    stays in the layout of its neighbors.
    """
    plain, x = call(tf, operation, tensors, tf.float32)[0], tensors[0]
    if plain.shape.rank is not None and list(plain.shape).count(None) <= 1 and 0 not in plain.shape:
        sizes = [-1 if size is None else size for size in plain.shape]
    else:
        asked = static_shape(tensors[1], x)
        if asked is None:
            return [plain]
        sizes = asked
    shape = [None if size < 0 else size for size in sizes]
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
