"""Write NASNet's factorized reduction as one convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, Shape, attribute
from xxdeploy.passes.fold_pad import zero_sides


@dataclass(frozen=True, slots=True)
class _Branch:
    """A 1x1 convolution of every ``strides``-th pixel of ``source``, from the pixel ``shift`` on."""

    source: str
    strides: tuple[int, int]
    shift: tuple[int, int]
    weights: NDArray[np.float32]


def fold_factorized(graph: Graph) -> int:
    """Turn a Concat of 1x1 convolutions of shifted subsamples of one tensor into one convolution; return how many.

    NASNet (Zoph et al. 2018, arXiv:1707.07012, appendix A.4) halves a tensor in two branches: every second pixel, and
    every second pixel after a shift by one (Pad, Slice, an average pool over a single pixel), each with a 1x1
    convolution. Together that is a 2x2 convolution with stride 2 and one non-zero tap per output channel: eight nodes
    become one, into which the next batch norm folds, and which INT8 runs in integers.
    """
    shapes, kinds = graph.shapes(), graph.types()
    count = 0
    for node in graph.nodes:
        if node.op_type != "Concat" or attribute(node, "axis", 0) not in (1, -3) or len(node.input) < 2:
            continue
        candidates = [_branch(graph, shapes, kinds, name) for name in node.input]
        branches = [branch for branch in candidates if branch is not None]
        if len(branches) < len(candidates) or len({(branch.source, branch.strides) for branch in branches}) != 1:
            continue
        source, strides = branches[0].source, branches[0].strides
        before, after = shapes[source][2:], shapes.get(node.output[0], ())[2:]
        kernel = [1 + max(branch.shift[axis] for branch in branches) for axis in (0, 1)]
        if len(after) != 2 or kernel == [1, 1] or any(size > step for size, step in zip(kernel, strides, strict=True)):
            continue  # a larger kernel would be nearly all zeros
        ends = [
            None if old is None or new is None else max(0, size + (new - 1) * step - old)
            for old, new, size, step in zip(before, after, kernel, strides, strict=True)
        ]
        if None in ends:
            continue
        weights = np.zeros(
            (sum(len(branch.weights) for branch in branches), branches[0].weights.shape[1], *kernel), "f4"
        )
        row = 0
        for branch in branches:
            weights[row : row + len(branch.weights), :, branch.shift[0], branch.shift[1]] = branch.weights[:, :, 0, 0]
            row += len(branch.weights)
        conv = onnx.helper.make_node(
            "Conv",
            [source, graph.add_array(f"{node.name}/kernel", weights)],
            list(node.output),
            node.name,
            kernel_shape=kernel,
            strides=strides,
            pads=[0, 0, *ends],
        )
        node.CopyFrom(conv)
        count += 1
    if count:
        _sweep(graph)
    return count


def _sweep(graph: Graph) -> None:
    """Remove the branches that nothing reads any more: their source would seem to have more readers."""
    graph.drop_indices()
    while True:
        read = graph.consumers()
        dead = [node for node in graph.nodes if not any(name in read or name in graph.kept for name in node.output)]
        if not dead:
            return
        graph.remove(dead)


def _branch(graph: Graph, shapes: Mapping[str, Shape], kinds: Mapping[str, int], name: str) -> _Branch | None:
    """Follow a branch back to its source; None if it is anything else."""
    producers = graph.producers()
    conv = producers.get(name)
    if conv is None or conv.op_type != "Conv" or len(conv.input) > 2:
        return None
    weights = graph.arrays.get(conv.input[1])
    if (
        weights is None
        or weights.dtype != np.float32
        or weights.shape[2:] != (1, 1)
        or graph.only_consumer(name) is None
    ):
        return None
    pool = producers.get(conv.input[0])
    if pool is None or pool.op_type not in ("AveragePool", "MaxPool") or len(pool.output) > 1:
        return None
    if list(attribute(pool, "kernel_shape", [])) != [1, 1] or list(attribute(conv, "strides", [1, 1])) != [1, 1]:
        return None
    if any(any(attribute(node, "pads", [0])) for node in (conv, pool)) or attribute(conv, "group", 1) != 1:
        return None
    down, right = attribute(pool, "strides", [1, 1])
    cut = producers.get(pool.input[0])
    if cut is None or cut.op_type != "Slice":
        return _Branch(pool.input[0], (down, right), (0, 0), weights)
    pad = producers.get(cut.input[0])
    sides = None
    if pad is not None and pad.op_type == "Pad":
        sides = zero_sides(graph, pad, kinds.get(pad.input[0], 0))
    shift = _starts(graph, cut, shapes.get(cut.input[0], ()))
    if pad is None or sides is None or shift is None or list(sides) != [0, 0, *shift]:
        return None
    return _Branch(pad.input[0], (down, right), shift, weights)


def _starts(graph: Graph, node: onnx.NodeProto, shape: Shape) -> tuple[int, int] | None:
    """Return how many rows and columns a Slice removes at the top and left; None if it does anything else."""
    values = [graph.arrays.get(name) if name else None for name in node.input[1:]]
    if len(shape) != 4 or any(value is None for value in values):
        return None
    starts, ends, *rest = (value.tolist() for value in values if value is not None)
    axes = rest[0] if rest else list(range(len(starts)))
    if len(rest) > 1 and set(rest[1]) != {1}:
        return None
    first = [0, 0, 0, 0]
    for start, end, axis in zip(starts, ends, axes, strict=True):
        size = shape[axis]
        if start < 0 or (end < (2**31 - 1 if size is None else size)):
            return None
        first[axis] = start
    return (first[2], first[3]) if first[:2] == [0, 0] else None
