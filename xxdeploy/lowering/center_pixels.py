"""Turn a scaled image back into pixels in front of the first layer, which takes the scaling over."""

from __future__ import annotations

import numpy as np
import onnx

from xxdeploy.lowering.shift_input import CENTERED
from xxdeploy.onnxmodel.graph import Graph, attribute, set_attribute
from xxdeploy.runtime.image.grid import MIDDLE, ChannelGrid


def center_pixels(graph: Graph, grid: ChannelGrid) -> int:
    """Let the first convolution read ``pixel - 128`` in RGB, where each channel is scaled by itself; return 1, or 0.

    With ``x = (pixel - mean) / deviation`` a weight becomes ``w / deviation``, and the means go into the bias. Then the
    pixel is the integer of the image, for every channel, and nothing is left to be scaled on the device. What the layer
    pads is zero in ``x`` and so the mean's pixel in each channel: the padding is taken out of the layer and put in
    front of it, where integers round it to a whole pixel. Written with what stays in float in INT8. Nothing is done
    where anything but one convolution behind one Transpose reads the image.
    """
    consumers, shapes, (source,) = graph.consumers(), graph.shapes(), graph.inputs
    readers = consumers.get(source, [])
    if len(readers) != 1 or readers[0].op_type != "Transpose" or {source, readers[0].output[0]} & graph.kept:
        return 0
    layers = consumers.get(readers[0].output[0], [])
    if len(layers) != 1 or not _is_plain(graph, layers[0]) or None in shapes.get(source, (None,))[1:]:
        return 0
    (node,), (transpose,) = layers, readers
    weights = graph.arrays[node.input[1]].astype(np.float64)
    if weights.shape[1] != len(grid.mean):
        return 0
    deviation = np.array(grid.deviation).reshape(1, -1, 1, 1)
    mean = np.array(grid.mean).reshape(1, -1, 1, 1)
    scaled = weights / deviation
    old = graph.arrays[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(len(weights))
    bias = old + (scaled * (MIDDLE - mean)).sum(axis=(1, 2, 3))
    order = -1 if grid.flip else 1
    node.input[:] = [
        node.input[0],
        graph.add_array(f"{node.name}/pixel_weight", np.ascontiguousarray(scaled[:, ::order]).astype(np.float32)),
        graph.add_array(f"{node.name}/pixel_bias", bias.astype(np.float32)),
    ]
    made, name = list[onnx.NodeProto](), source

    def add(kind: str, part: str, operand: str) -> None:
        nonlocal name
        into = graph.fresh(CENTERED if part == "centred" else f"{source}_{part}")
        values = {"axis": 3} if kind == "Gather" else {}
        made.append(onnx.helper.make_node(kind, [name, operand], [into], into, None, None, None, **values))
        name = into

    top, left, bottom, right = attribute(node, "pads", [0] * 4)
    if any((top, left, bottom, right)):
        pads = graph.add_array(f"{source}/pads", np.array([0, top, left, 0, 0, bottom, right, 0]))
        add("Pad", "padded", pads)
        set_attribute(node, "pads", None)
    if grid.flip:
        add("Gather", "rgb", graph.add_array(f"{source}/order", np.arange(len(grid.mean))[::-1].copy()))
    add("Div", "unscaled", graph.add_array(f"{source}/factor", (1 / deviation.reshape(-1)[::order]).astype(np.float32)))
    shift = (MIDDLE - mean.reshape(-1)[::order]).astype(np.float32)
    add("Sub", "centred", graph.add_array(f"{source}/shift", shift))
    transpose.input[0] = name
    # The old name is that of the image, which this is no more.
    transpose.output[0] = node.input[0] = graph.fresh(f"{name}_nchw")
    graph.nodes[:0] = made
    return 1


def _is_plain(graph: Graph, node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Conv"
        and attribute(node, "group", 1) == 1
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and all(name in graph.arrays for name in node.input[1:] if name)
        and graph.arrays[node.input[1]].ndim == 4
    )
