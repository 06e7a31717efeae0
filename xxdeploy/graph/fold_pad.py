"""Fold a zero Pad into the convolution or pooling that reads it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from xxdeploy.graph.graph import Graph, attribute, set_attribute

ALMOST_ZERO = np.finfo(np.float32).tiny
"""A pad value that is zero to every sum and every quantiser, but not to ONNX Runtime's PadFusion."""

_NOT_NEGATIVE = {"Relu", "Sigmoid", "Softmax", "HardSigmoid"}


def fold_pad(graph: Graph) -> int:
    """Fold constant zero pads of height and width; return how many readers were changed.

    - Conv pads with zeros itself.
    - AveragePool does so with ``count_include_pad``, if it had no pads of its own.
    - MaxPool pads with minus infinity: the same result where the data cannot be negative.
    """
    producers = graph.producers()
    count = 0
    for node in graph.nodes:
        pad = producers.get(node.input[0]) if node.input else None
        if pad is None or pad.op_type != "Pad" or node.op_type not in ("Conv", "AveragePool", "MaxPool"):
            continue
        sides = _sides(graph, pad)
        if sides is None or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        own = list(attribute(node, "pads", [0, 0, 0, 0]))
        if node.op_type == "MaxPool" and not (_not_negative(graph, producers, pad.input[0]) and _fits(node, sides)):
            _guard(graph, pad)
            continue
        if node.op_type == "AveragePool" and (any(own) or attribute(node, "ceil_mode", 0)):
            continue
        set_attribute(node, "pads", [a + b for a, b in zip(own, sides, strict=True)])
        set_attribute(node, "auto_pad", None)
        if node.op_type == "AveragePool":
            set_attribute(node, "count_include_pad", 1)
        node.input[0] = pad.input[0]
        count += 1
    return count


def _guard(graph: Graph, pad: onnx.NodeProto) -> None:
    """Keep ONNX Runtime (seen in 1.31) from folding this Pad into MaxPool as if it padded with zeros.

    It drops the Pad and lets MaxPool pad with minus infinity, which changes every border of NASNet's
    reduction cells. It does so for a pad value of exactly zero only.
    """
    value = graph.add_array(f"{pad.name}/almost_zero", np.asarray(ALMOST_ZERO, np.float32))
    pad.input[:] = [*pad.input[:2], value]


def _sides(graph: Graph, pad: onnx.NodeProto) -> Sequence[int] | None:
    """Return (top, left, bottom, right) of a foldable Pad of an NCHW tensor."""
    pads = graph.arrays.get(pad.input[1])
    if attribute(pad, "mode", "constant") != "constant" or pads is None or pads.size != 8 or len(pad.input) > 3:
        return None
    if len(pad.input) > 2 and pad.input[2]:
        value = graph.arrays.get(pad.input[2])
        if value is None or abs(value.item()) > ALMOST_ZERO:
            return None
    values = [int(value) for value in pads]
    if any(values[axis] for axis in (0, 1, 4, 5)) or min(values) < 0:
        return None
    return [values[2], values[3], values[6], values[7]]


def _fits(node: onnx.NodeProto, sides: Sequence[int]) -> bool:
    """ONNX wants each pad of a pooling to be smaller than its kernel."""
    kernel = list(attribute(node, "kernel_shape", []))
    return all(side < size for side, size in zip(sides, kernel * 2, strict=True))


def _not_negative(graph: Graph, producers: dict[str, onnx.NodeProto], name: str) -> bool:
    node = producers.get(name)
    if node is None:
        return False
    if node.op_type == "Clip" and len(node.input) > 1 and node.input[1] in graph.arrays:
        return float(graph.arrays[node.input[1]].min()) >= 0
    return node.op_type in _NOT_NEGATIVE
