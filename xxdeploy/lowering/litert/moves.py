"""Operators that only move elements: they work on integers as on floats."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from xxdeploy.lowering.litert.values import CHANNELS_LAST, Sink, Value, Values, refuse
from xxdeploy.onnxmodel.graph import attribute


def moved(values: Values, node: NodeProto, order: tuple[int, ...] | None = None) -> tuple[Sink, Value]:
    """Return where the result goes and the first operand: integers if both sides have the same pair.

    ``quantize`` lets some operators read integers without a pair around them: their result has the pair of the operand.
    """
    if (own := values.integers(node.input[0])) is not None:
        return Sink(node.output[0], own.pair), values.ordered(own, order)
    pair = values.pair_of(node.input[0])
    sink = None if pair is None else values.integer_sink(node.output[0])
    if sink is None or sink.activation or sink.pair != pair:
        return Sink(node.output[0], None), values.real(node.input[0], order)
    return sink, values.integer(node.input[0], order)


def transpose(values: Values, node: NodeProto) -> None:
    """Only rename the axes: nothing moves until a layer wants another order."""
    sink, x = moved(values, node)
    axes = attribute(node, "perm", None) or list(range(len(x.order)))[::-1]
    values.absorbed.update(sink.absorbed)
    values.keep(sink.name, values.renamed(x, tuple(axes.index(axis) for axis in x.order)))


def reshape(values: Values, node: NodeProto) -> None:
    """Write a Reshape, Flatten, Squeeze or Unsqueeze; where axes are only split or joined, none is moved before."""
    sink, x = moved(values, node)
    before, after = values.shape(node.input[0]), values.shape(sink.name)
    order = _order_after(before, after, x.order)
    if order is None:
        sink, x = moved(values, node, tuple(range(len(before))))
        order = tuple(range(len(after)))
    out = values.result(sink, order)
    values.reshape(x.index, out.index, out.shape)


def _order_after(before: tuple[int, ...], after: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the order of the axes after a reshape in the order ``order``; None if the elements must be moved first.

    Axes of one may lie anywhere: where the others are in ONNX's order, so are all.
    """
    groups = _groups(before, after)
    result: list[int] = []
    left = [axis for axis in order if before[axis] != 1]
    while left:
        group = next((ins, outs) for ins, outs in groups if left[0] in ins)
        if left[: len(group[0])] != group[0]:
            return None
        left = left[len(group[0]) :]
        result += group[1]
    if result == sorted(result):
        return tuple(range(len(after)))
    return (*result, *(axis for axis in range(len(after)) if axis not in result))


def _groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest groups of axes before and after that hold the same elements, without axes of one."""
    ins = [axis for axis, size in enumerate(before) if size != 1]
    outs = [axis for axis, size in enumerate(after) if size != 1]
    groups = []
    while ins:
        taken, made = [ins.pop(0)], [outs.pop(0)]
        sizes = [before[taken[0]], after[made[0]]]
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                taken.append(ins.pop(0))
                sizes[0] *= before[taken[-1]]
            else:
                made.append(outs.pop(0))
                sizes[1] *= after[made[-1]]
        groups.append((taken, made))
    return groups


def concat(values: Values, node: NodeProto) -> None:
    """Write a Concat; integers of another pair are brought to that of the result first."""
    if (own := next(filter(None, map(values.integers, node.input)), None)) is not None:
        _integer_concat(values, node, own)
        return
    integer = all(values.pair_of(name) is not None for name in node.input)
    sink = values.integer_sink(node.output[0]) if integer else None
    if sink is not None and sink.activation:
        sink = None
    rank = len(values.shape(node.output[0]))
    first = next(name for name in node.input if values.weights(name) is None)
    order = (values.real(first) if sink is None else values.integer(first)).order
    if sink is None:
        operands = [values.real(name, order) for name in node.input]
    else:
        assert sink.pair is not None
        operands = [values.requantized(values.integer(name, order), sink.pair) for name in node.input]
    axis = order.index(attribute(node, "axis", 0) % rank)
    out = values.result(sink or Sink(node.output[0], None), order)
    values.flat.operator("CONCATENATION", [x.index for x in operands], [out.index], 2, axis=axis)


def _integer_concat(values: Values, node: NodeProto, own: Value) -> None:
    """Write the Concat of integers of one pair, as ``take_uint8_channels`` puts a border around a picture."""
    assert own.pair is not None
    operands = []
    for name in node.input:
        value = values.integers(name)
        array = values.graph.constants.get(name)
        if array is not None and array.dtype == np.uint8:
            moved_by = (array.astype(np.int16) - 128).astype(np.int8).transpose(own.order)
            value = Value(values.flat.constant(name, moved_by, own.pair.table), own.order, moved_by.shape, own.pair)
        if value is None or value.pair != own.pair:
            raise refuse(node, "it joins integers of several scales")
        operands.append(values.ordered(value, own.order).index)
    axis = own.order.index(attribute(node, "axis", 0) % len(own.order))
    out = values.result(Sink(node.output[0], own.pair), own.order)
    values.flat.operator("CONCATENATION", operands, [out.index], 2, axis=axis)


def pad(values: Values, node: NodeProto) -> None:
    """Write a Pad with zeros, or with one number."""
    mode = attribute(node, "mode", "constant")
    if mode not in ("constant", "reflect"):
        raise refuse(node, f"it pads in the mode {mode}")
    constants = values.graph.constants
    sink, x = moved(values, node)
    rank = len(x.shape)
    numbers = constants[node.input[1]].tolist()
    axes = list(range(rank))
    if len(node.input) > 3 and node.input[3]:
        axes = [axis % rank for axis in constants[node.input[3]].tolist()]
    ends = {axis: (numbers[i], numbers[i + len(numbers) // 2]) for i, axis in enumerate(axes)}
    if any(end < 0 for pair in ends.values() for end in pair):
        raise refuse(node, "it cuts")
    borders = values.flat.constant("borders", np.array([ends.get(axis, (0, 0)) for axis in x.order], np.int32))
    out = values.result(sink, x.order)
    if mode == "reflect":
        values.flat.operator("MIRROR_PAD", [x.index, borders], [out.index], 2, mode=0)
        return
    given = (
        constants[node.input[2]].reshape(-1)[:1] if len(node.input) > 2 and node.input[2] else np.zeros(1, np.float32)
    )
    if x.pair is None:
        fill, zero = given, 0
    else:  # integers of ONNX, or a real number
        moved_by = {"uint8": 128, "int8": 0}.get(given.dtype.name)
        real = np.rint(given / x.pair.scale) + x.pair.zero_point
        fill = np.clip(real if moved_by is None else given.astype(np.int32) - moved_by, -128, 127).astype(np.int8)
        zero = x.pair.zero_point
    if fill[0] == zero:
        values.flat.operator("PAD", [x.index, borders], [out.index], 2)
        return
    number = values.flat.constant("fill", fill, None if x.pair is None else x.pair.table)
    values.flat.operator("PADV2", [x.index, borders, number], [out.index], 2)


def slices(values: Values, node: NodeProto) -> None:
    """Write a Slice with constant bounds and positive steps."""
    constants = values.graph.constants
    sink, x = moved(values, node)
    shape = values.shape(node.input[0])
    given = [constants[name].tolist() if name else None for name in (*node.input[1:], "", "", "", "")[:4]]
    starts, ends = (part or [] for part in given[:2])
    axes, steps = given[2:]
    axes = list(range(len(starts))) if axes is None else [axis % len(shape) for axis in axes]
    steps = [1] * len(starts) if steps is None else steps
    bounds = {
        axis: range(shape[axis])[start:end:step]
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }
    cut = [bounds.get(axis, range(shape[axis])) for axis in x.order]
    out = values.result(sink, x.order)
    if any(part.step < 0 for part in cut):
        _gathered(values, x, out, cut)
        return
    numbers = ([r.start for r in cut], [r.stop for r in cut], [r.step for r in cut])
    operands = [values.flat.constant("bounds", np.array(column, np.int32)) for column in numbers]
    values.flat.operator("STRIDED_SLICE", [x.index, *operands], [out.index], 2)


def _gathered(values: Values, x: Value, out: Value, cut: list[range]) -> None:
    """Take the elements of each axis by their index: a slice that steps backwards."""
    changed = [axis for axis, part in enumerate(cut) if part != range(x.shape[axis])]
    if not changed:
        values.reshape(x.index, out.index, out.shape)
    for axis in changed:
        shape = (*x.shape[:axis], len(cut[axis]), *x.shape[axis + 1 :])
        last = axis == changed[-1]
        name, kind = f"{values.flat.tensors[out.index].name}/{axis}", values.flat.kind(x.index)
        to = out if last else values.new(name, shape, x.order, x.pair, kind)
        indices = values.flat.constant("indices", np.array(cut[axis], np.int32))
        values.flat.operator("GATHER", [x.index, indices], [to.index], 2, axis=axis, batchDims=0)
        x = to


def gather(values: Values, node: NodeProto) -> None:
    """Write a Gather by constant indices, a list or one."""
    indices = values.graph.constants.get(node.input[1])
    if indices is None or indices.ndim > 1 or values.weights(node.input[0]) is not None:
        raise refuse(node, "its indices are computed")
    sink, x = moved(values, node)
    rank = len(x.order)
    axis = attribute(node, "axis", 0) % rank
    whole = (indices + (indices < 0) * values.shape(node.input[0])[axis]).astype(np.int32)
    order = x.order
    if indices.ndim == 0:
        order = tuple(other - (other > axis) for other in x.order if other != axis)
    out = values.result(sink, order)
    operands = [x.index, values.flat.constant("indices", whole)]
    values.flat.operator("GATHER", operands, [out.index], 2, axis=x.order.index(axis), batchDims=0)


def split(values: Values, node: NodeProto) -> None:
    """Write a Split as slices."""
    rank = len(values.shape(node.input[0]))
    axis = attribute(node, "axis", 0) % rank
    start = 0
    x = values.real(node.input[0])
    for name in node.output:
        width = values.shape(name)[axis]
        out = values.result(Sink(name, None), x.order)
        begin = [start if axis == other else 0 for other in x.order]
        operands = [values.flat.constant("bounds", np.array(column, np.int32)) for column in (begin, out.shape)]
        values.flat.operator("SLICE", [x.index, *operands], [out.index], 2)
        start += width


def depth_to_space(values: Values, node: NodeProto) -> None:
    """Write a DepthToSpace in TensorFlow's order of channels."""
    if attribute(node, "mode", "DCR") != "DCR":
        raise refuse(node, "its channels are in the order CRD")
    sink, x = moved(values, node, CHANNELS_LAST)
    out = values.result(sink, CHANNELS_LAST)
    values.flat.operator("DEPTH_TO_SPACE", [x.index], [out.index], 2, blockSize=attribute(node, "blocksize", 2))


def space_to_depth(values: Values, node: NodeProto) -> None:
    """Write a SpaceToDepth, whose order of channels is TensorFlow's."""
    sink, x = moved(values, node, CHANNELS_LAST)
    out = values.result(sink, CHANNELS_LAST)
    values.flat.operator("SPACE_TO_DEPTH", [x.index], [out.index], 1, blockSize=attribute(node, "blocksize", 2))


def identity(values: Values, node: NodeProto) -> None:
    """Give a tensor another name."""
    sink, x = moved(values, node)
    values.absorbed.update(sink.absorbed)
    values.keep(sink.name, x)


def reverse_sequence(values: Values, node: NodeProto) -> None:
    """Write a ReverseSequence whose lengths are the whole axis: the axis is reversed."""
    lengths = values.graph.constants.get(node.input[1])
    sink, x = moved(values, node)
    axis = attribute(node, "time_axis", 0)
    if lengths is None or np.any(lengths != values.shape(node.input[0])[axis]):
        raise refuse(node, "its lengths are computed, or not those of the axis")
    out = values.result(sink, x.order)
    cut = [range(size) for size in x.shape]
    position = x.order.index(axis)
    cut[position] = cut[position][::-1]
    _gathered(values, x, out, cut)
