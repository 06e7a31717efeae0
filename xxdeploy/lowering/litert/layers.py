"""Convolutions and dense layers: the operators with weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from xxdeploy.lowering.litert.flat import Quantization
from xxdeploy.lowering.litert.values import CHANNELS_LAST, Sink, Value, Values, Weights, refuse
from xxdeploy.onnxmodel.graph import attribute

SAME, VALID = 0, 1
_MOST_TAPS = 25
"""Weights of a channel up to which XNNPACK has depthwise kernels; beyond, it takes 7 to 40 times as long."""
_MANY = 1 << 16
"""Weights of a dense layer, whose float form would take 260 kB."""


def conv(values: Values, node: NodeProto) -> None:
    """Write a Conv as CONV_2D, or as DEPTHWISE_CONV_2D where each channel has weights of its own."""
    weights = _weights(values, node)
    rank = weights.array.ndim
    if rank != 4:
        raise refuse(node, f"it has {rank - 2} spatial axes")
    groups, channels = attribute(node, "group", 1), values.shape(node.input[0])[1]
    kernel = weights.array.shape[2:]
    depthwise = groups == channels > 1
    if depthwise and kernel[0] * kernel[1] > _MOST_TAPS >= kernel[1]:
        _large_depthwise(values, node, weights)
        return
    sink, x, weights, bias = _operands(values, node, weights, CHANNELS_LAST)
    strides, dilations = (attribute(node, name, [1, 1]) for name in ("strides", "dilations"))
    x, padding = padded(values, node, x, kernel, strides, dilations)
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    filters = _constant(values, node.input[1], weights, order)
    out = values.result(sink, CHANNELS_LAST)
    options = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": sink.activation,
    }
    if depthwise:
        options["depthMultiplier"] = weights.array.shape[0] // channels
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    values.flat.operator(name, [x.index, filters, bias], [out.index], 3 if sink.pair else 2, **options)


def _large_depthwise(values: Values, node: NodeProto, weights: Weights) -> None:
    """Write a depthwise convolution as the sum of smaller ones over rows of its kernel, float: see ``_MOST_TAPS``."""
    sink, x, weights, bias = _operands(values, node, weights, CHANNELS_LAST, floats=True)
    kernel, channels = weights.array.shape[2:], x.shape[3]
    strides, dilations = (attribute(node, name, [1, 1]) for name in ("strides", "dilations"))
    ends = _ends(node, x, kernel, strides, dilations)
    x = pad_spatial(values, x, ends) if any(map(any, ends)) else x
    out = values.result(sink, CHANNELS_LAST)
    options = {"strideH": strides[0], "strideW": strides[1]}
    options |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
    none = values.flat.constant("none", np.zeros(weights.array.shape[0], np.float32))
    total: Value | None = None
    most = _MOST_TAPS // kernel[1]
    for row in range(0, kernel[0], most):
        part = Weights(weights.array[:, :, row : row + most])
        tall = (out.shape[1] - 1) * strides[0] + (part.array.shape[2] - 1) * dilations[0] + 1
        cut = values.new(f"{sink.name}/{row}/rows", (1, tall, *x.shape[2:]), CHANNELS_LAST)
        bounds = np.array([[0, row * dilations[0], 0, 0], cut.shape], np.int32)
        values.flat.operator("SLICE", [x.index, *(values.flat.constant("bounds", b) for b in bounds)], [cut.index], 2)
        made = values.new(f"{sink.name}/{row}", out.shape, CHANNELS_LAST)
        operands = [cut.index, _constant(values, node.input[1], part, (1, 2, 3, 0)), none if total else bias]
        multiplier = weights.array.shape[0] // channels
        values.flat.operator(
            "DEPTHWISE_CONV_2D", operands, [made.index], 2, padding=VALID, depthMultiplier=multiplier, **options
        )
        if total is not None:
            last = row + most >= kernel[0]
            added = out if last else values.new(f"{sink.name}/{row}/sum", out.shape, CHANNELS_LAST)
            activation = sink.activation if last else 0
            values.flat.operator("ADD", [total.index, made.index], [added.index], fusedActivationFunction=activation)
            made = added
        total = made


def conv_transpose(values: Values, node: NodeProto) -> None:
    """Write a ConvTranspose as TRANSPOSE_CONV, and cut or pad where its padding is none that LiteRT knows."""
    weights = _weights(values, node)
    if weights.array.ndim != 4 or attribute(node, "group", 1) != 1:
        raise refuse(node, "it has groups, or is not two-dimensional")
    if any(factor != 1 for factor in attribute(node, "dilations", [1, 1])):
        raise refuse(node, "it is dilated")
    sink, x, weights, bias = _operands(values, node, weights, CHANNELS_LAST)
    strides, kernel = attribute(node, "strides", [1, 1]), weights.array.shape[2:]
    pads, extra = attribute(node, "pads", [0] * 4), attribute(node, "output_padding", [0, 0])
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise refuse(node, "its padding is automatic")
    sizes = [(x.shape[1 + axis] - 1) * strides[axis] + kernel[axis] for axis in (0, 1)]
    ends = [(pads[axis], pads[axis + 2] - extra[axis]) for axis in (0, 1)]
    wanted = [size - sum(end) for size, end in zip(sizes, ends, strict=True)]
    padding = _transposed_padding(wanted, x.shape[1:3], kernel, strides, ends)
    if padding is None and any(end < 0 for pair in ends for end in pair):
        raise refuse(node, "its output is padded")
    filters = _constant(values, node.input[1], weights, (1, 2, 3, 0))
    whole = sizes if padding is None else wanted
    channels = weights.array.shape[1]
    shape = values.flat.constant("shape", np.array([x.shape[0], *whole, channels], np.int32))
    out = values.result(sink, CHANNELS_LAST)
    made = (
        out
        if padding is not None
        else values.new(f"{sink.name}/whole", [1, *whole, channels], CHANNELS_LAST, sink.pair)
    )
    values.flat.operator(
        "TRANSPOSE_CONV",
        [shape, filters, x.index, bias],
        [made.index],
        4 if sink.activation else 3,
        padding=VALID if padding is None else padding,
        strideH=strides[0],
        strideW=strides[1],
        fusedActivationFunction=sink.activation,
    )
    if padding is None:
        begin = np.array([0, ends[0][0], ends[1][0], 0], np.int32)
        size = np.array(out.shape, np.int32)
        operands = [made.index, values.flat.constant("begin", begin), values.flat.constant("size", size)]
        values.flat.operator("SLICE", operands, [out.index], 2)


def _transposed_padding(
    wanted: Sequence[int],
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    ends: Sequence[tuple[int, int]],
) -> int | None:
    """Return SAME or VALID if LiteRT's own arithmetic gives these borders."""
    if all(end == (0, 0) for end in ends):
        return VALID
    for axis in (0, 1):
        cut = max((sizes[axis] - 1) * strides[axis] + kernel[axis] - wanted[axis], 0)
        if -(-wanted[axis] // strides[axis]) != sizes[axis] or ends[axis] != (cut // 2, cut - cut // 2):
            return None
    return SAME


def dense(values: Values, node: NodeProto) -> None:
    """Write a Gemm, or a MatMul with constant weights, as FULLY_CONNECTED.

    A layer whose result stays float (the logits) reads a float input. If it has many weights they stay integers:
    LiteRT's hybrid form, which rounds its input to 8 bits again, by the largest value that is there.
    """
    flags = {name: attribute(node, name, 0) for name in ("transA", "transB")}
    factors = [attribute(node, name, 1.0) for name in ("alpha", "beta")]
    weights = values.weights(node.input[1])
    if weights is None and node.op_type == "MatMul":
        _matmul(values, node)
        return
    if weights is None or flags["transA"] or factors != [1.0, 1.0] or weights.array.ndim != 2:
        raise refuse(node, "its weights are not a constant matrix")
    order = (0, 1) if flags["transB"] else (1, 0)
    rank = len(values.shape(node.input[0]))
    many = weights.array.size >= _MANY
    sink, x, weights, bias = _operands(values, node, weights, tuple(range(rank)), keeps_integer_weights=many)
    filters = _constant(values, node.input[1], weights, order)
    out = values.result(sink)
    values.flat.operator(
        "FULLY_CONNECTED",
        [x.index, filters, bias],
        [out.index],
        5,
        fusedActivationFunction=sink.activation,
        keepNumDims=rank > 2,
        asymmetricQuantizeInputs=sink.pair is None and weights.scale is not None,
    )


def _matmul(values: Values, node: NodeProto) -> None:
    """Write a MatMul of two activations."""
    operands = [values.real(name, tuple(range(len(values.shape(name))))).index for name in node.input]
    out = values.result(Sink(node.output[0], None))
    values.flat.operator("BATCH_MATMUL", operands, [out.index], 1, adjX=False, adjY=False)


def padded(
    values: Values,
    node: NodeProto,
    x: Value,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    lowest: bool = False,
) -> tuple[Value, int]:
    """Return the input and the padding that give a layer the pads of ``node``: SAME, VALID, or VALID after a PAD.

    ``lowest`` pads with the least number, as a maximum asks for; else with zero.
    """
    ends = _ends(node, x, kernel, strides, dilations)
    if all(end == (0, 0) for end in ends):
        return x, VALID
    if ends == _same_ends(x, kernel, strides, dilations):
        return x, SAME
    return pad_spatial(values, x, ends, lowest=lowest), VALID


def _ends(
    node: NodeProto, x: Value, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the borders of height and of width that ``node`` puts around ``x``, channels last."""
    automatic = attribute(node, "auto_pad", "NOTSET")
    if automatic == "SAME_LOWER":
        raise refuse(node, "it pads more at the start than at the end")
    pads = attribute(node, "pads", [0] * 4) if automatic == "NOTSET" else [0] * 4
    ends = [(pads[axis], pads[axis + 2]) for axis in (0, 1)]
    if automatic == "SAME_UPPER":
        ends = _same_ends(x, kernel, strides, dilations)
    if attribute(node, "ceil_mode", 0):
        whole = [_ceiled(x.shape[1 + axis], kernel[axis], strides[axis], ends[axis]) for axis in (0, 1)]
        for size, side, stride, old, new in zip(x.shape[1:3], kernel, strides, ends, whole, strict=True):
            if (size + sum(new) - side) // stride * stride >= size + old[0]:
                raise refuse(node, "its last window lies in the border, where engines differ")
        ends = whole
    return ends


def _same_ends(
    x: Value, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    return [_same(x.shape[1 + axis], kernel[axis], strides[axis], dilations[axis]) for axis in (0, 1)]


def pad_spatial(values: Values, x: Value, ends: Sequence[tuple[int, int]], *, lowest: bool = False) -> Value:
    """Return ``x`` (channels last) with borders of zeros, or of the least number that its type has."""
    shape = [x.shape[0], *(x.shape[1 + axis] + sum(ends[axis]) for axis in (0, 1)), x.shape[3]]
    new = values.new(f"{values.flat.tensors[x.index].name}/padded", shape, x.order, x.pair)
    borders = values.flat.constant("borders", np.array([(0, 0), *ends, (0, 0)], np.int32))
    if not lowest or (x.pair is not None and x.pair.zero_point == -128):
        values.flat.operator("PAD", [x.index, borders], [new.index], 2)
        return new
    number = np.array([np.finfo(np.float32).min], np.float32) if x.pair is None else np.array([-128], np.int8)
    fill = values.flat.constant("lowest", number, None if x.pair is None else x.pair.table)
    values.flat.operator("PADV2", [x.index, borders, fill], [new.index], 2)
    return new


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the borders of TensorFlow's SAME."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _ceiled(size: int, kernel: int, stride: int, ends: tuple[int, int]) -> tuple[int, int]:
    """Return borders with which rounding down gives the size that rounding up gives without."""
    rest = (size + sum(ends) - kernel) % stride
    return ends[0], ends[1] + (stride - rest if rest else 0)


def _weights(values: Values, node: NodeProto) -> Weights:
    weights = values.weights(node.input[1])
    if weights is None:
        raise refuse(node, "its weights are computed")
    return weights


def _operands(
    values: Values,
    node: NodeProto,
    weights: Weights,
    order: tuple[int, ...],
    *,
    keeps_integer_weights: bool = False,
    floats: bool = False,
) -> tuple[Sink, Value, Weights, int]:
    """Return where the result goes, the input in ``order``, the weights and the bias: all integer, or all float.

    ``floats``: the layer has no integer form, whatever the graph says.
    """
    if weights.zero:
        weights = Weights(weights.real)
    pair = values.pair_of(node.input[0])
    sink = None if floats or pair is None or weights.scale is None else values.integer_sink(node.output[0])
    bias = values.weights(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if sink is None:
        sink = values.float_sink(node.output[0])
        if not keeps_integer_weights:
            weights = Weights(weights.real)
        numbers = np.zeros(_width(node, weights), np.float32) if bias is None else bias.real.reshape(-1)
        index = values.flat.constant(f"{node.output[0]}/bias", numbers)
        return sink, values.real(node.input[0], order), weights, index
    assert pair is not None
    assert weights.scale is not None
    x = values.integer(node.input[0], order)
    width = _width(node, weights)
    scale = np.broadcast_to(weights.scale, (width,)) * np.float32(pair.scale)
    integers = np.zeros(width, np.int32)
    if bias is not None:
        real = bias.real.reshape(-1).astype(np.float64)
        same = bias.scale is not None and np.allclose(np.broadcast_to(bias.scale, (width,)), scale, rtol=1e-5, atol=0)
        integers = bias.array.reshape(-1) if same else np.rint(np.broadcast_to(real, (width,)) / scale)
        integers = np.broadcast_to(integers, (width,)).astype(np.int32)
    per_axis = Quantization(tuple(map(float, scale)), (0,) * width)
    return sink, x, weights, values.flat.constant(f"{node.output[0]}/bias", integers, per_axis)


def _width(node: NodeProto, weights: Weights) -> int:
    """Return the number of output channels."""
    if node.op_type == "Conv":
        return int(weights.array.shape[0])
    return int(weights.array.shape[0 if attribute(node, "transB", 0) else 1])


def _constant(values: Values, name: str, weights: Weights, order: tuple[int, ...]) -> int:
    """Write weights with their axes in ``order``."""
    array: NDArray[np.generic] = np.ascontiguousarray(weights.array.transpose(order))
    if weights.scale is None:
        return values.flat.constant(name, array)
    count = array.shape[order.index(weights.axis)]
    scale = np.broadcast_to(weights.scale, (count,))
    table = Quantization(tuple(map(float, scale)), (0,) * count, order.index(weights.axis))
    return values.flat.constant(name, array, table)
