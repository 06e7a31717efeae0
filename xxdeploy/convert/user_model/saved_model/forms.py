"""Operations of TensorFlow in the form that tf2onnx converts exactly; ``keras_patches`` has the same for Keras' layers.

Each function gets TensorFlow, the operation and its input tensors, and returns the outputs, or None for the operation
as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_patches import is_exact_bilinear, is_exact_nearest, same_pads, transposed_convolution
from xxdeploy.convert.user_model.saved_model.program import Form, Operation, Program, Ref, call
from xxdeploy.convert.user_model.saved_model.shapes import reshape, reverse, static_value
from xxdeploy.errors import UsageError

_NORM_TYPES = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def expand_norms(program: Program) -> Program:
    """Write each batch normalization of a program, in inference, as one scale and one shift, and these as arithmetic.

    The arithmetic depends on weights only, so it is done once, in float64.
    """
    operations: list[Operation] = []
    constants = list(program.constants)
    moved: dict[int, int] = {}

    def new(ref: Ref) -> Ref:
        return Ref("result", moved[ref.place], ref.output) if ref.kind == "result" else ref

    for index, operation in enumerate(program.operations):
        inputs = tuple(map(new, operation.inputs))
        is_norm = operation.type in _NORM_TYPES and not trains(operation)
        if not is_norm or _text(operation, "data_format").startswith("NC"):
            operations.append(replace(operation, inputs=inputs))
        else:
            constants.append(np.asarray(_epsilon(operation), np.float32))

            def add(kind: str, *read: Ref, path: str = operation.path) -> Ref:
                operations.append(Operation(f"{path}/{kind}", kind, read, {}))
                return Ref("result", len(operations) - 1)

            x, gamma, beta, mean, variance = inputs
            deviation = add("Rsqrt", add("AddV2", variance, Ref("constant", len(constants) - 1)))
            scale = add("Mul", deviation, gamma)
            shift = add("Sub", beta, add("Mul", mean, scale))
            add("AddV2", add("Mul", x, scale), shift)
        moved[index] = len(operations) - 1
    return replace(
        program, operations=tuple(operations), outputs=tuple(map(new, program.outputs)), constants=tuple(constants)
    )


def _epsilon(operation: Operation) -> float:
    return operation.attributes["epsilon"].f if "epsilon" in operation.attributes else 1e-4


def batch_norm(tf: Any, operation: Operation, tensors: list[Any]) -> list[Any] | None:
    """Write batch normalization as one scale and one shift (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2).

    Keras 2 computes layer normalization by the same operation in training mode, with one row for each normalized
    vector: that is the mean and the variance of the row.
    """
    x, gamma, beta, mean, variance = tensors
    epsilon = tf.cast(_epsilon(operation), x.dtype)
    first = _text(operation, "data_format").startswith("NC")
    if trains(operation):
        check_norm(tf, operation, tensors)
        rows = _normalized_rows(tf, x, epsilon) if _is_filled(gamma, 1.0) and _is_filled(beta, 0.0) else None
        if rows is not None:
            return [rows]
        centered = x - tf.reduce_mean(x, (2, 3), keepdims=True)
        spread = tf.reduce_mean(centered * centered, (2, 3), keepdims=True)
        normal = centered * tf.math.rsqrt(spread + epsilon)
        scale, shift = (tf.reshape(tensor, (1, -1, 1, 1)) for tensor in (gamma, beta))
        return [normal * scale + shift]
    scale = gamma * tf.math.rsqrt(variance + epsilon)
    shift = beta - mean * scale
    if first:
        scale, shift = (tf.reshape(tensor, (-1, 1, 1)) for tensor in (scale, shift))
    return [x * scale + shift]


def _is_filled(tensor: Any, value: float) -> bool:
    """Tell whether a tensor of a graph is filled with ``value``: Keras 2 gives a scale of ones, a shift of zeros."""
    operation = getattr(tensor, "op", None) if hasattr(tensor, "graph") else None
    return operation is not None and operation.type == "Fill" and static_value(operation.inputs[1]) == value


def _normalized_rows(tf: Any, x: Any, epsilon: Any) -> Any | None:
    """Return ``x`` (1, rows, width, 1), each row normalized, if it is a reshaped tensor whose last axes are a row.

    The arithmetic is then done in the shape of that tensor, as ``keras_patches`` does it (Ba et al. 2016,
    arXiv:1607.06450), and the reshaping back is undone by ``shapes.reshape``.
    """
    if not hasattr(x, "graph") or x.op.type != "Reshape":
        return None
    source, width = x.op.inputs[0], x.shape[2]
    axes = list(range(len(source.shape)))
    while axes and (None in source.shape[axes[0] :] or math.prod(source.shape[axes[0] :]) != width):
        axes.pop(0)
    if not axes:
        return None
    centered = source - tf.reduce_mean(source, axes, keepdims=True)
    spread = tf.reduce_mean(centered * centered, axes, keepdims=True)
    return tf.reshape(centered * tf.math.rsqrt(spread + epsilon), (1, -1, width, 1))


def check_norm(_: Any, operation: Operation, tensors: list[Any]) -> None:
    """Refuse batch normalization in training mode, unless each row is normalized by itself.

    Raises
    ------
    UsageError
        ``saved-model-training``.
    """
    alone = _text(operation, "data_format").startswith("NC") and tensors[0].shape[0] == 1
    if trains(operation) and not alone:
        raise UsageError(
            f"the model normalizes with the statistics of each batch (at {operation.path}), so the answer for a "
            "picture depends on the others",
            hint="where the model was made, save it as it computes in inference (training=False)",
            code="saved-model-training",
        )


def trains(operation: Operation) -> bool:
    """Tell whether a batch normalization computes the statistics itself (the default, which a file may leave out)."""
    return "is_training" not in operation.attributes or bool(operation.attributes["is_training"].b)


def _conv(tf: Any, operation: Operation, tensors: list[Any]) -> list[Any] | None:
    """Write the pads of a dilated convolution out: ONNX Runtime's SAME_UPPER does not know dilations."""
    x, kernel = tensors
    rates, strides = (_integers(operation, name) or [1, 1, 1, 1] for name in ("dilations", "strides"))
    if _text(operation, "padding") != "SAME" or rates == [1, 1, 1, 1] or None in x.shape[1:3]:
        return None
    x = tf.pad(x, same_pads(x, kernel, strides[1:3], rates[1:3]))
    convolve = tf.nn.conv2d if operation.type == "Conv2D" else tf.nn.depthwise_conv2d
    if operation.type == "Conv2D":
        return [convolve(x, kernel, strides[1:3], "VALID", dilations=rates[1:3])]
    return [convolve(x, kernel, strides, "VALID", dilations=rates[1:3])]


def _from_batches(tf: Any, _: Operation, tensors: list[Any]) -> list[Any] | None:
    """Write a convolution between SpaceToBatchND and BatchToSpaceND, as TensorFlow 1 dilates, as a dilated one.

    tf2onnx drops a pad before such a convolution.
    """
    block, crops = (static_value(tensor) for tensor in tensors[1:])
    inner = tensors[0].op if hasattr(tensors[0], "graph") else None
    if inner is None or inner.type not in ("Conv2D", "DepthwiseConv2dNative") or block is None or crops is None:
        return None
    outer = inner.inputs[0].op
    if outer.type != "SpaceToBatchND" or inner.get_attr("padding") != b"VALID" or set(inner.get_attr("strides")) != {1}:
        return None
    pads, sizes = static_value(outer.inputs[2]), static_value(outer.inputs[1])
    if pads is None or sizes is None or len(sizes) != 2 or list(sizes) != list(block):
        return None
    x = tf.pad(outer.inputs[0], [[0, 0], *pads.tolist(), [0, 0]])
    rates = [int(size) for size in sizes]
    if inner.type == "Conv2D":
        result = tf.nn.conv2d(x, inner.inputs[1], 1, "VALID", dilations=rates)
    else:
        result = tf.nn.depthwise_conv2d(x, inner.inputs[1], [1, 1, 1, 1], "VALID", dilations=rates)
    height, width = result.shape[1:3]
    (top, bottom), (left, right) = crops.tolist()
    if not any((top, bottom, left, right)):
        return [result]
    return None if height is None or width is None else [result[:, top : height - bottom, left : width - right]]


def _conv_transpose(tf: Any, operation: Operation, tensors: list[Any]) -> list[Any] | None:
    sizes, kernel, x = tensors
    strides, rates = (_integers(operation, name) or [1, 1, 1, 1] for name in ("strides", "dilations"))
    wanted = tf.get_static_value(sizes, partial=True)  # the batch is not known
    if wanted is None or None in x.shape[1:3] or any(wanted[axis] is None for axis in (1, 2)):
        return None
    padding = _text(operation, "padding").lower()
    if padding not in ("same", "valid"):
        return None
    result = transposed_convolution(tf, x, kernel, strides[1:3], rates[1:3], [int(wanted[1]), int(wanted[2])], padding)
    return None if result is None else [result]


def _resize(tf: Any, operation: Operation, tensors: list[Any]) -> list[Any] | None:
    """Write resizing as two matrix products, or as a Gather, where ONNX has no exact operator of it."""
    images, size = tensors[0], static_value(tensors[1])
    before = tuple(images.shape[1:3])
    if size is None or None in before:
        return None
    target = int(size[0]), int(size[1])
    half = "half_pixel_centers" in operation.attributes and operation.attributes["half_pixel_centers"].b
    exact = {"ResizeNearestNeighbor": is_exact_nearest, "ResizeBilinear": is_exact_bilinear}.get(operation.type)
    if half and exact and all(exact(old, new) for old, new in zip(before, target, strict=True)):
        return None
    if operation.type == "ResizeNearestNeighbor":
        for axis, (old, new) in enumerate(zip(before, target, strict=True), start=1):
            with tf.init_scope():
                line = tf.reshape(tf.range(old, dtype=tf.float32), (1, old, 1, 1))
                places = np.asarray(_resized(tf, operation, line, (new, 1))).reshape(new).astype(np.int32)
            images = tf.gather(images, places, axis=axis)
        return [images]
    matrices = [_matrix(tf, operation, old, new) for old, new in zip(before, target, strict=True)]
    return [_by_matrices(tf, images, *matrices)]


def _scale_and_translate(tf: Any, operation: Operation, tensors: list[Any]) -> list[Any] | None:
    """Write Keras' antialiased and Lanczos resizing as two matrix products."""
    images = tensors[0]
    size, scale, shift = (static_value(tensor) for tensor in tensors[1:])
    if size is None or scale is None or shift is None or None in images.shape[1:3]:
        return None
    matrices = []
    for axis in (0, 1):
        old, new = images.shape[1 + axis], int(size[axis])
        with tf.init_scope():
            unit = tf.reshape(tf.eye(old), (1, old, 1, old))
            factors, offsets = ([np.float32(values[axis]), base] for values, base in ((scale, 1.0), (shift, 0.0)))
            known = [unit, tf.constant([new, 1]), *(np.asarray(pair, np.float32) for pair in (factors, offsets))]
            resized = call(tf, operation, [tf.convert_to_tensor(item) for item in known], tf.float32)[0]
            matrices.append(np.asarray(resized, np.float32).reshape(new, old))
    return [_by_matrices(tf, images, *matrices)]


def _resized(tf: Any, operation: Operation, images: Any, size: tuple[int, int]) -> Any:
    return call(tf, operation, [images, tf.constant(size)], tf.float32)[0]


def _matrix(tf: Any, operation: Operation, old: int, new: int) -> NDArray[np.float32]:
    """Return the matrix (new, old) of an operation that resizes, along one axis."""
    with tf.init_scope():
        unit = tf.reshape(tf.eye(old), (1, old, 1, old))
        return np.asarray(_resized(tf, operation, unit, (new, 1)), np.float32).reshape(new, old)


def _by_matrices(tf: Any, images: Any, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Any:
    planes = tf.transpose(tf.cast(images, tf.float32), (0, 3, 1, 2))
    planes = tf.matmul(tf.constant(rows), tf.matmul(planes, tf.constant(columns.T)))
    return tf.transpose(planes, (0, 2, 3, 1))


def _text(operation: Operation, name: str) -> str:
    return operation.attributes[name].s.decode() if name in operation.attributes else ""


def _integers(operation: Operation, name: str) -> list[int]:
    return list(operation.attributes[name].list.i) if name in operation.attributes else []


def _erfc(tf: Any, _: Operation, tensors: list[Any]) -> list[Any]:
    return [1.0 - tf.math.erf(tensors[0])]


def _expm1(tf: Any, _: Operation, tensors: list[Any]) -> list[Any]:
    return [tf.exp(tensors[0]) - 1.0]


def _log1p(tf: Any, _: Operation, tensors: list[Any]) -> list[Any]:
    return [tf.math.log(tensors[0] + 1.0)]


def _div(_: Any, __: Operation, tensors: list[Any]) -> list[Any] | None:
    x, y = tensors
    return [x / y] if x.dtype.is_floating else None


_NORMS: Mapping[str, Form] = dict.fromkeys(_NORM_TYPES, batch_norm)

LEAN: Mapping[str, Form] = {
    **_NORMS,
    "Conv2D": _conv,
    "DepthwiseConv2dNative": _conv,
    "BatchToSpaceND": _from_batches,
    "Conv2DBackpropInput": _conv_transpose,
    "Reshape": reshape,
    "ReverseV2": reverse,
    **dict.fromkeys(("ResizeNearestNeighbor", "ResizeBilinear", "ResizeBicubic", "ResizeArea"), _resize),
    "ScaleAndTranslate": _scale_and_translate,
    "Erfc": _erfc,
    "Expm1": _expm1,
    "Log1p": _log1p,
    "Div": _div,
}
"""Forms by the operation's type, for the graph that tf2onnx converts."""

CHECKS: Mapping[str, Form] = dict.fromkeys(_NORM_TYPES, check_norm)
"""Forms that change nothing, and refuse what has another meaning than in inference."""

EXACT: Mapping[str, Form] = _NORMS
"""Forms for float64, in which TensorFlow's kernel of batch normalization does not compute."""
