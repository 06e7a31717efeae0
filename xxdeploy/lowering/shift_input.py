"""Shift the image so that pixels become whole steps: what 8-bit integers can hold without rounding."""

from __future__ import annotations

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, attribute

CENTERED = "image_centred"


def shift_input(graph: Graph, amount: float) -> int:
    """Add ``amount`` to the input and take it out of the biases of the layers that read it; return how many those are.

    A picture scaled to -1..1 is ``(pixel - 127.5) / 127.5``, and zero lies between two pixels. Shifted by half a step
    it is ``(pixel - 127) / 127.5``: the pixel itself is the integer, with zero point 127. Written as a Sub, which INT8
    leaves in float. Where a convolution pads, the border's zeros are half a step off, as every pixel was that a
    quantizer rounded. Nothing is done where anything but convolutions behind one Transpose reads the image.
    """
    consumers, (source,) = graph.consumers(), graph.inputs
    readers = consumers.get(source, [])
    if len(readers) != 1 or readers[0].op_type != "Transpose" or {source, readers[0].output[0]} & graph.kept:
        return 0
    layers = consumers.get(readers[0].output[0], [])
    if not layers or any(not _is_plain(graph, node) for node in layers):
        return 0
    centered = graph.fresh(CENTERED)
    shift = graph.add_array(f"{centered}/shift", np.asarray(-amount, np.float32))
    graph.nodes.insert(0, onnx.helper.make_node("Sub", [source, shift], [centered], centered))
    readers[0].input[0] = centered
    for node in layers:
        weights = graph.arrays[node.input[1]].astype(np.float64)
        old = graph.arrays[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(len(weights))
        bias = (old - amount * weights.sum(axis=(1, 2, 3))).astype(np.float32)
        node.input[:] = [*list(node.input)[:2], graph.add_array(f"{node.name}/centred_bias", bias)]
    return len(layers)


def _is_plain(graph: Graph, node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Conv"
        and attribute(node, "group", 1) == 1
        and all(name in graph.arrays for name in node.input[1:] if name)
        and graph.arrays[node.input[1]].ndim == 4
    )
