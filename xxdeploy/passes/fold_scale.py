"""Fold a scale into the next convolution: the ``Rescaling`` of a model with raw pixels as input.

``W * (x s)`` is ``(W s) * x``, with zeros padded around either. A shift between them stays, divided by the scale:
``x s + t = s (x + t / s)``. It cannot go into the bias, since the padded zeros are not shifted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, attribute

_TO_NCHW = [0, 3, 1, 2]


def fold_scale(graph: Graph) -> int:
    """Fold Mul and Div by constants into the weights of the next Conv; return how many."""
    count = 0
    while _fold_one(graph):
        count += 1
    return count


def _fold_one(graph: Graph) -> bool:
    producers, consumers = graph.producers(), graph.consumers()
    for conv in graph.nodes:
        weight = graph.arrays.get(conv.input[1]) if conv.op_type == "Conv" else None
        if weight is None or weight.dtype != np.float32 or weight.ndim != 4:
            continue
        shifts: list[onnx.NodeProto] = []
        name, last_axis, moved = conv.input[0], False, False
        while (node := producers.get(name)) is not None and len(consumers[name]) == 1 and name not in graph.kept:
            if node.op_type == "Transpose" and attribute(node, "perm", None) == _TO_NCHW and not last_axis:
                last_axis, moved = True, bool(shifts)
            elif node.op_type in ("Add", "Sub") and _constant(graph, node) is not None:
                shifts.append(node)
            elif node.op_type in ("Mul", "Div") and (scale := _constant(graph, node)) is not None:
                if _fold(graph, conv, weight, node, scale, shifts, last_axis=last_axis, moved=moved):
                    return True
                break
            else:
                break
            name = _data(graph, node)
    return False


def _constant(graph: Graph, node: onnx.NodeProto) -> NDArray[Any] | None:
    """Return the constant of ``x op c`` (or ``c op x`` where that is the same), None for anything else."""
    known = [name for name in node.input if name in graph.arrays]
    if len(known) != 1 or (node.op_type in ("Sub", "Div") and node.input[1] not in graph.arrays):
        return None
    array = graph.arrays[known[0]]
    return array if array.dtype == np.float32 and array.ndim <= 4 else None


def _data(graph: Graph, node: onnx.NodeProto) -> str:
    return str(next(name for name in node.input if name not in graph.arrays))


def _fold(
    graph: Graph,
    conv: onnx.NodeProto,
    weight: NDArray[Any],
    node: onnx.NodeProto,
    scale: NDArray[Any],
    shifts: list[onnx.NodeProto],
    *,
    last_axis: bool,
    moved: bool,
) -> bool:
    factor = 1.0 / scale.astype(np.float64) if node.op_type == "Div" else scale.astype(np.float64)
    channels = weight.shape[1]
    shape = (1, 1, 1, channels) if last_axis else (1, channels, 1, 1)
    by_channel = factor.size > 1
    if not np.isfinite(factor).all() or not factor.all():
        return False
    if by_channel and ((1,) * (4 - factor.ndim) + factor.shape != shape or attribute(conv, "group", 1) != 1 or moved):
        return False  # one factor per channel; every shift must stand on the same side of the Transpose
    for shift in shifts:
        index = 1 if shift.input[1] in graph.arrays else 0
        constant = graph.arrays[shift.input[index]] / factor
        shift.input[index] = graph.add_array(f"{shift.output[0]}/constant", constant.astype(np.float32))
    scaled = weight * (factor.reshape(1, -1, 1, 1) if by_channel else factor.reshape(()))
    conv.input[1] = graph.add_array(f"{conv.name}/weight", np.ascontiguousarray(scaled, np.float32))
    graph.remove([node])
    graph.rewire({node.output[0]: _data(graph, node)})
    return True
