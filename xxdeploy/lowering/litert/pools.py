"""Pools, means and resizing: operators that join or repeat neighbors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from xxdeploy.lowering.litert.flat import Quantization
from xxdeploy.lowering.litert.layers import SAME, VALID, pad_spatial, padded
from xxdeploy.lowering.litert.values import CHANNELS_LAST, Sink, Value, Values, refuse
from xxdeploy.onnxmodel.graph import attribute

_ONE = 64
"""The integer weight of an average as a depthwise convolution; its scale makes it ``1 / number of elements``."""


def max_pool(values: Values, node: NodeProto) -> None:
    """Write a MaxPool; the integers keep their pair, since LiteRT's pools cannot change it."""
    if any(factor != 1 for factor in attribute(node, "dilations", [1, 1])) or len(node.output) > 1:
        raise refuse(node, "it is dilated, or returns indices")
    sink, x = _pooled_operands(values, node)
    kernel, strides = attribute(node, "kernel_shape", [1, 1]), attribute(node, "strides", [1, 1])
    x, padding = padded(values, node, x, kernel, strides, [1, 1], lowest=True)
    _pool(values, "MAX_POOL_2D", sink, x, kernel, strides, padding)


def average_pool(values: Values, node: NodeProto) -> None:
    """Write an AveragePool: as a depthwise convolution in INT8, since XNNPACK has no integer average."""
    kernel, strides = attribute(node, "kernel_shape", [1, 1]), attribute(node, "strides", [1, 1])
    pair = values.pair_of(node.input[0])
    sink = None if pair is None else values.integer_sink(node.output[0])
    x = values.real(node.input[0], CHANNELS_LAST) if sink is None else values.integer(node.input[0], CHANNELS_LAST)
    height, width = x.shape[1:3]
    x, padding = padded(values, node, x, kernel, strides, [1, 1])
    counts_padding = bool(attribute(node, "count_include_pad", 0))
    if counts_padding and attribute(node, "ceil_mode", 0):
        raise refuse(node, "it counts its borders, and rounds its size up")
    if padding == SAME and counts_padding:
        ends = [(pads[0], pads[1]) for pads in zip(*[iter(attribute(node, "pads", [0] * 4))] * 2, strict=True)]
        x, padding = pad_spatial(values, x, [(ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])]), VALID
    elif padding == VALID and x.shape[1:3] != (height, width) and not counts_padding:
        raise refuse(node, "its borders are neither SAME nor counted")
    if sink is None:
        _pool(values, "AVERAGE_POOL_2D", values.float_sink(node.output[0]), x, kernel, strides, padding)
        return
    if padding == SAME:  # the elements at the border are fewer
        _float_average(values, sink, x, kernel, strides)
        return
    assert sink.pair is not None
    count = int(np.prod(kernel))
    channels = x.shape[3]
    weights = np.full((1, *kernel, channels), _ONE, np.int8)
    table = Quantization((1 / count / _ONE,) * channels, (0,) * channels, 3)
    filters = values.flat.constant(f"average/{count}", weights, table)
    assert pair is not None
    scale = Quantization((pair.scale / count / _ONE,) * channels, (0,) * channels)
    bias = values.flat.constant(f"average/{count}/bias", np.zeros(channels, np.int32), scale)
    out = values.result(sink, CHANNELS_LAST)
    values.flat.operator(
        "DEPTHWISE_CONV_2D",
        [x.index, filters, bias],
        [out.index],
        3,
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        depthMultiplier=1,
        fusedActivationFunction=sink.activation,
    )


def _float_average(values: Values, sink: Sink, x: Value, kernel: list[int], strides: list[int]) -> None:
    """Write an average that counts only what is inside, in float behind a pair."""
    real = values.new(f"{sink.name}/real", x.shape, x.order)
    values.flat.operator("DEQUANTIZE", [x.index], [real.index], 2)
    out = values.result(sink, CHANNELS_LAST)
    mean = values.new(f"{sink.name}/mean", out.shape, CHANNELS_LAST)
    options = {"padding": SAME, "strideH": strides[0], "strideW": strides[1]}
    options |= {"filterHeight": kernel[0], "filterWidth": kernel[1], "fusedActivationFunction": sink.activation}
    values.flat.operator("AVERAGE_POOL_2D", [real.index], [mean.index], 1, **options)
    values.flat.operator("QUANTIZE", [mean.index], [out.index], 2)


def global_pool(values: Values, node: NodeProto) -> None:
    """Write a GlobalAveragePool or GlobalMaxPool."""
    rank = len(values.shape(node.input[0]))
    _reduce(values, node, tuple(range(2, rank)), keeps=True)


_REDUCTIONS = {
    "GlobalAveragePool": "MEAN",
    "GlobalMaxPool": "REDUCE_MAX",
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
}


def reduce(values: Values, node: NodeProto) -> None:
    """Write a ReduceMean, ReduceSum or ReduceMax with constant axes."""
    rank = len(values.shape(node.input[0]))
    axes = attribute(node, "axes", None)
    if len(node.input) > 1 and node.input[1]:
        axes = values.graph.constants[node.input[1]].tolist()
    axes = range(rank) if axes is None else axes
    _reduce(values, node, tuple(sorted(axis % rank for axis in axes)), keeps=bool(attribute(node, "keepdims", 1)))


def _reduce(values: Values, node: NodeProto, axes: tuple[int, ...], *, keeps: bool) -> None:
    name = _REDUCTIONS[node.op_type]
    pair = values.pair_of(node.input[0])
    sink = None if pair is None or name not in ("MEAN", "REDUCE_MAX") else values.integer_sink(node.output[0])
    if sink is not None and sink.activation:
        sink = None
    rank = len(values.shape(node.input[0]))
    order = CHANNELS_LAST if rank == 4 and axes == (2, 3) else None
    x = values.real(node.input[0], order) if sink is None else values.integer(node.input[0], order)
    target = Sink(node.output[0], None) if sink is None else sink
    if keeps:
        out_order = x.order
    else:
        kept = [axis for axis in range(rank) if axis not in axes]
        out_order = tuple(kept.index(axis) for axis in x.order if axis in kept)
    if name == "REDUCE_MAX" and sink is not None:
        _keep_pair(values, target, x, name, axes, out_order, keeps)
        return
    out = values.result(target, out_order)
    _write_reduction(values, name, x, out, axes, keeps)


def _write_reduction(values: Values, name: str, x: Value, out: Value, axes: tuple[int, ...], keeps: bool) -> None:
    where = np.array(sorted(x.order.index(axis) for axis in axes), np.int32)
    operands = [x.index, values.flat.constant("axes", where)]
    values.flat.operator(name, operands, [out.index], 2, keepDims=keeps)


def _keep_pair(
    values: Values, sink: Sink, x: Value, name: str, axes: tuple[int, ...], order: tuple[int, ...], keeps: bool
) -> None:
    """Write a maximum in the pair of its input, and change the pair afterwards."""
    assert sink.pair is not None
    out = values.result(sink, order)
    same = out if sink.pair == x.pair else values.new(f"{sink.name}/same", out.shape, out.order, x.pair)
    _write_reduction(values, name, x, same, axes, keeps)
    if same is not out:
        values.flat.operator("QUANTIZE", [same.index], [out.index], 2)


def resize(values: Values, node: NodeProto) -> None:
    """Write a Resize of height and width: nearest, or linear."""
    shape = values.shape(node.output[0])
    if len(shape) != 4:
        raise refuse(node, "it is not two-dimensional")
    mode = attribute(node, "mode", "nearest")
    sink, x = _pooled_operands(values, node)
    if x.shape[0] != shape[0] or x.shape[3] != shape[1] or mode not in ("nearest", "linear"):
        raise refuse(node, f"it is of the kind {mode}")
    wanted = [_places(values, node, axis, x.shape[axis - 1], shape[axis]) for axis in (2, 3)]
    for corners, half in ((False, True), (False, False), (True, False)):
        have = [_litert_places(mode, x.shape[1 + axis], shape[2 + axis], corners, half) for axis in (0, 1)]
        if all(np.abs(one - other).max() < _CLOSE for one, other in zip(wanted, have, strict=True)):
            break
    else:
        raise refuse(node, "it rounds positions in another way")
    name = "RESIZE_NEAREST_NEIGHBOR" if mode == "nearest" else "RESIZE_BILINEAR"
    size = values.flat.constant("size", np.array(shape[2:], np.int32))
    _keeping(values, sink, x, name, [size], 3, alignCorners=corners, halfPixelCenters=half)


_CLOSE = 1e-4
"""Pixels between two positions that are the same, but for rounding."""
_ROUNDED: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "round_prefer_floor": lambda places: np.ceil(places - np.float32(0.5)),
    "round_prefer_ceil": lambda places: np.floor(places + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _places(values: Values, node: NodeProto, axis: int, old: int, new: int) -> NDArray[np.float32]:
    """Return the positions in the input, (new,) float32 in pixels, from which ONNX takes the elements of an axis."""
    how = attribute(node, "coordinate_transformation_mode", "half_pixel")
    known = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    plain = attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch" and not attribute(node, "antialias", 0)
    given = values.graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    named = attribute(node, "axes", None) is not None or (given is None and any(node.input[2:3]))
    if how not in known or not plain or named:
        raise refuse(node, f"it is of the kind {how}, or antialiased, or its scales are not constant")
    scale = np.float32(given[axis] if given is not None and given.size else new / old)
    index = np.arange(new, dtype=np.float32)
    if how == "align_corners":
        places = index * np.float32((old - 1) / max(new - 1, 1))
    elif how == "asymmetric":
        places = index / scale
    else:
        places = (index + np.float32(0.5)) / scale - np.float32(0.5)
        places = places * np.float32(how == "half_pixel" or new > 1)
    if attribute(node, "mode", "nearest") == "nearest":
        places = _ROUNDED[attribute(node, "nearest_mode", "round_prefer_floor")](places)
    return np.asarray(np.clip(places, 0, old - 1), np.float32)


def _litert_places(mode: str, old: int, new: int, corners: bool, half: bool) -> NDArray[np.float32]:
    """Return the same positions of LiteRT's two operators, as their reference kernels compute them."""
    scale = np.float32((old - 1) / (new - 1)) if corners and new > 1 else np.float32(old / new)
    places = (np.arange(new, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    if mode == "nearest":
        places = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
    elif half:
        places = places - np.float32(0.5)
    return np.asarray(np.clip(places, 0, old - 1), np.float32)


def _pooled_operands(values: Values, node: NodeProto) -> tuple[Sink, Value]:
    """Return where the result goes and the input, channels last: both in integers or both in float."""
    sink = None if values.pair_of(node.input[0]) is None else values.integer_sink(node.output[0])
    if sink is not None and sink.activation:
        sink = None
    if sink is None:
        return values.float_sink(node.output[0]), values.real(node.input[0], CHANNELS_LAST)
    return sink, values.integer(node.input[0], CHANNELS_LAST)


def _pool(values: Values, name: str, sink: Sink, x: Value, kernel: list[int], strides: list[int], padding: int) -> None:
    options = {"padding": padding, "strideH": strides[0], "strideW": strides[1]}
    options |= {"filterHeight": kernel[0], "filterWidth": kernel[1], "fusedActivationFunction": sink.activation}
    _keeping(values, sink, x, name, [], 2 if sink.pair else 1, **options)


def _keeping(values: Values, sink: Sink, x: Value, name: str, more: list[int], version: int, **options: object) -> None:
    """Write an operator whose result must have the pair of its input, then change the pair if the graph does."""
    out = values.result(sink, CHANNELS_LAST)
    changes = sink.pair is not None and sink.pair != x.pair
    same = values.new(f"{sink.name}/same", out.shape, out.order, x.pair) if changes else out
    values.flat.operator(name, [x.index, *more], [same.index], version, **options)
    if changes:
        values.flat.operator("QUANTIZE", [same.index], [out.index], 2)
