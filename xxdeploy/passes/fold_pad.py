"""Fold a zero Pad into the convolution or pooling that reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, attribute, set_attribute

ALMOST_ZERO: dict[int, float] = {
    onnx.TensorProto.FLOAT: float(np.finfo(np.float32).tiny),
    onnx.TensorProto.DOUBLE: float(np.finfo(np.float32).tiny),
    onnx.TensorProto.FLOAT16: float(np.finfo(np.float16).smallest_subnormal),
}
"""For each type a pad value that sums and quantizers treat as zero, and ONNX Runtime's PadFusion does not."""

_NOT_NEGATIVE = {"Relu", "Sigmoid", "Softmax", "HardSigmoid"}


def fold_pad(graph: Graph) -> int:
    """Fold constant zero pads of height and width; return how many readers were changed.

    - Conv pads with zeros itself.
    - AveragePool does so with ``count_include_pad``, if it had no pads of its own.
    - MaxPool pads with minus infinity: the result is the same if the data cannot be negative and every window
      contains data.

    A pooling accepts only pads that are smaller than its kernel, and with ``ceil_mode`` it would drop windows that
    begin in its own padding.
    """
    producers = graph.producers()
    kinds = graph.types()
    count = 0
    for node in graph.nodes:
        pad = producers.get(node.input[0]) if node.input else None
        if pad is None or pad.op_type != "Pad" or node.op_type not in ("Conv", "AveragePool", "MaxPool"):
            continue
        sides = zero_sides(graph, pad, kinds.get(pad.input[0], 0))
        if sides is None or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        if len(node.output) > 1:
            continue  # MaxPool's second output holds indices into the padded tensor
        own = attribute(node, "pads", [0, 0, 0, 0])
        both = [a + b for a, b in zip(own, sides, strict=True)]
        allowed = node.op_type == "AveragePool" or _not_negative(graph, producers, pad)
        if node.op_type != "Conv" and not (allowed and _pools_alike(node, own, both)):
            if node.op_type == "MaxPool" or not _fits(node, both):
                _guard(graph, pad, kinds[pad.input[0]])
            continue
        set_attribute(node, "pads", both)
        set_attribute(node, "auto_pad", None)
        if node.op_type == "AveragePool":
            set_attribute(node, "count_include_pad", 1)
        node.input[0] = pad.input[0]
        count += 1
    return count


def _guard(graph: Graph, pad: onnx.NodeProto, kind: int) -> None:
    """Keep ONNX Runtime (seen in 1.31) from folding this Pad, which would be wrong.

    It drops the Pad and lets MaxPool pad with minus infinity, which changes every border of NASNet's
    reduction cells, and it writes pads as large as a pooling's kernel, which it then refuses to load.
    It does so for a pad value of exactly zero only.
    """
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    value = graph.add_array(f"{pad.name}/almost_zero", np.asarray(ALMOST_ZERO[kind], dtype))
    pad.input[:] = [*pad.input[:2], value]


def zero_sides(graph: Graph, pad: onnx.NodeProto, kind: int) -> Sequence[int] | None:
    """Return (top, left, bottom, right) of a foldable Pad of an NCHW tensor of type ``kind``."""
    pads = graph.arrays.get(pad.input[1])
    if kind not in ALMOST_ZERO or pads is None or pads.size != 8:
        return None
    if attribute(pad, "mode", "constant") != "constant" or (len(pad.input) > 3 and pad.input[3]):
        return None
    if len(pad.input) > 2 and pad.input[2]:
        value = graph.arrays.get(pad.input[2])
        if value is None or abs(value.item()) > ALMOST_ZERO[kind]:
            return None
    values = [int(value) for value in pads]
    if any(values[axis] for axis in (0, 1, 4, 5)) or min(values) < 0:
        return None
    return [values[2], values[3], values[6], values[7]]


def _pools_alike(node: onnx.NodeProto, own: Sequence[int], both: Sequence[int]) -> bool:
    """Tell whether the pooling with pads ``both`` equals the Pad and the pooling with pads ``own``."""
    if attribute(node, "ceil_mode", 0) or not _fits(node, both):
        return False
    return not any(own) if node.op_type == "AveragePool" else max(attribute(node, "dilations", [1])) == 1


def _fits(node: onnx.NodeProto, pads: Sequence[int]) -> bool:
    kernel = list(attribute(node, "kernel_shape", []))
    return all(side < size for side, size in zip(pads, kernel * 2, strict=True))


def _not_negative(graph: Graph, producers: Mapping[str, onnx.NodeProto], pad: onnx.NodeProto) -> bool:
    node = producers.get(pad.input[0])
    if node is None:
        return False
    if node.op_type == "Clip" and len(node.input) > 1 and node.input[1] in graph.arrays:
        return float(graph.arrays[node.input[1]].min()) >= 0
    return node.op_type in _NOT_NEGATIVE
