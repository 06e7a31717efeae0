"""Rewrite the input of a float graph so that its INT8 integers are the pixels themselves, without rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, attribute, set_attribute
from xxdeploy.runtime.image.grid import MIDDLE, ChannelGrid

CENTERED = "image_centred"
"""Name of the shifted image; it stands in model files."""


def shift_input(graph: Graph, amount: float) -> int:
    """Add ``amount`` to the input and subtract its effect from the biases of its readers; return how many there are.

    A picture scaled to -1..1 is ``(pixel - 127.5) / 127.5``, and zero lies between two pixels. Shifted by half a step
    it is ``(pixel - 127) / 127.5``: the pixel itself is the integer, with zero point 127. The shift is a Sub, which
    stays in float in INT8. Padded zeros are then half a step wrong, as every pixel was that a quantizer rounded.
    Nothing changes unless one Transpose reads the image, and nothing but convolutions reads the Transpose.
    """
    transpose, layers = _first_layers(graph)
    if transpose is None:
        return 0
    centered = graph.fresh(CENTERED)
    shift = graph.add_array(f"{centered}/shift", np.asarray(-amount, np.float32))
    graph.nodes.insert(0, onnx.helper.make_node("Sub", [graph.inputs[0], shift], [centered], centered))
    transpose.input[0] = centered
    for node in layers:
        weights = graph.arrays[node.input[1]].astype(np.float64)
        bias = (_bias(graph, node) - amount * weights.sum(axis=(1, 2, 3))).astype(np.float32)
        node.input[:] = [*list(node.input)[:2], graph.add_array(f"{node.name}/centred_bias", bias)]
    return len(layers)


def center_pixels(graph: Graph, grid: ChannelGrid) -> int:
    """Let the first convolution read ``pixel - 128`` in RGB if channels are scaled separately; return 1, or 0.

    With ``x = (pixel - mean) / deviation`` a weight becomes ``w / deviation``, and the means go into the bias. The
    image's integers are then the pixels in every channel, and the device has nothing to scale. The layer pads with
    zero, which is the mean's pixel in each channel: a Pad before the layer takes the padding over, and integers round
    it to a whole pixel. All new operators stay in float in INT8. Nothing changes unless one Transpose reads the image
    and one convolution the Transpose.
    """
    (source,), (transpose, layers) = graph.inputs, _first_layers(graph)
    if transpose is None or len(layers) != 1 or attribute(layers[0], "auto_pad", "NOTSET") != "NOTSET":
        return 0
    (node,) = layers
    weights = graph.arrays[node.input[1]].astype(np.float64)
    if weights.shape[1] != len(grid.mean) or None in graph.shapes().get(source, (None,))[1:]:
        return 0
    deviation = np.array(grid.deviation).reshape(1, -1, 1, 1)
    mean = np.array(grid.mean).reshape(1, -1, 1, 1)
    scaled = weights / deviation
    bias = _bias(graph, node) + (scaled * (MIDDLE - mean)).sum(axis=(1, 2, 3))
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
    # A new name: the tensor no longer holds the image as scaled.
    transpose.output[0] = node.input[0] = graph.fresh(f"{name}_nchw")
    graph.nodes[:0] = made
    return 1


def _first_layers(graph: Graph) -> tuple[onnx.NodeProto | None, list[onnx.NodeProto]]:
    """Return the Transpose that alone reads the image and the convolutions that read it; None if there are others."""
    transpose = graph.only_consumer(graph.inputs[0])
    if transpose is None or transpose.op_type != "Transpose" or transpose.output[0] in graph.kept:
        return None, []
    layers = graph.consumers().get(transpose.output[0], [])
    return (transpose, layers) if layers and all(_is_plain(graph, node) for node in layers) else (None, [])


def _bias(graph: Graph, node: onnx.NodeProto) -> NDArray[Any]:
    if len(node.input) > 2 and node.input[2]:
        return graph.arrays[node.input[2]]
    return np.zeros(len(graph.arrays[node.input[1]]))


def _is_plain(graph: Graph, node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Conv"
        and attribute(node, "group", 1) == 1
        and all(name in graph.arrays for name in node.input[1:] if name)
        and graph.arrays[node.input[1]].ndim == 4
    )
