"""uint8 input for an INT8 model whose channels are scaled separately."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.lowering.uint8_input import dequantize_before_transpose
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.runtime.image.grid import METADATA, MIDDLE, ChannelGrid

with extra("export"):
    from onnx import NodeProto, TensorProto, helper

_CHAIN = ("Pad", "Gather", "Div", "Sub", "QuantizeLinear")
_WANTED = ("Div", "Sub", "QuantizeLinear")


def take_uint8_channels(model: OnnxModel, grid: ChannelGrid) -> OnnxModel:
    """Return an INT8 ``model`` that :func:`~xxdeploy.lowering.center_pixels.center_pixels` prepared, with uint8 input.

    The picture's bytes, RGB, are the integers; where the layer pads, the border holds the means' pixels. The operators
    that undid the scaling are removed, and the results are bit-identical. In a file with int8 activations a Q/DQ pair
    converts the bytes. Metadata ``xxdeploy.pixels`` holds the grid, so that a runtime can convert a scaled image. Any
    other model is returned as it is.
    """
    graph = Graph(model)
    (source,) = graph.inputs
    chain = _chain(graph, source)
    if chain is None:
        return model
    quantizer = chain[-1]
    zero = graph.constants[quantizer.input[2]]
    signed = zero.dtype == np.int8
    if float(graph.constants[quantizer.input[1]]) != 1.0 or int(zero) != MIDDLE - (128 if signed else 0):
        return model
    nodes, name = list[NodeProto](), source
    if chain[0].op_type == "Pad":
        pads = [int(pad) for pad in graph.constants[chain[0].input[1]]]
        shape = [dim.dim_value for dim in graph.header.graph.input[0].type.tensor_type.shape.dim]
        made, name = _bordered(
            source, shape, pads, np.rint(np.array(grid.mean)[:: -1 if grid.flip else 1]), graph.arrays
        )
        nodes += made
    removed = {output for node in chain for output in node.output}
    kept = [node for node in graph.nodes if removed.isdisjoint(node.output)]
    made_here = quantizer.output[0]
    if signed:
        graph.arrays[f"{source}_middle"] = np.array(MIDDLE, np.uint8)
        graph.arrays[f"{source}_step"] = np.array(1, np.float32)
        pair = f"{source}_dequantized"
        nodes.append(helper.make_node("DequantizeLinear", [name, f"{source}_step", f"{source}_middle"], [pair], pair))
        nodes.append(helper.make_node("QuantizeLinear", [pair, *quantizer.input[1:]], [made_here], quantizer.name))
    else:
        for node in kept:
            node.input[:] = [name if tensor == made_here else tensor for tensor in node.input]
        kept = dequantize_before_transpose(kept, name)
    graph.header.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph.note(METADATA, json.dumps(grid.to_json()))
    return graph.with_nodes([*nodes, *kept])


def _chain(graph: Graph, source: str) -> list[NodeProto] | None:
    """Return the nodes from the image to its quantizer, if they are those of ``center_pixels``."""
    chain, name = list[NodeProto](), source
    for kind in _CHAIN:
        node = graph.only_consumer(name)
        if node is not None and node.op_type == kind:
            chain.append(node)
            name = node.output[0]
        elif kind in _WANTED:
            return None
    return chain if len(chain[-1].input) > 2 else None


def _bordered(
    source: str, shape: list[int], pads: list[int], pixels: NDArray[np.float64], arrays: dict[str, NDArray[Any]]
) -> tuple[list[NodeProto], str]:
    """Return nodes that put a border of ``pixels`` around a picture (n, h, w, c) uint8, and the tensor they write."""
    _, top, left, _, _, bottom, right, _ = pads
    height, width = shape[1], shape[2]
    count = f"{source}_count"
    arrays[f"{source}_rest"] = np.array([1, 1, 1])
    nodes = [
        helper.make_node("Shape", [source], [f"{source}_batch"], f"{source}_batch", start=0, end=1),
        helper.make_node("Concat", [f"{source}_batch", f"{source}_rest"], [count], count, axis=0),
    ]

    def border(what: str, rows: int, columns: int) -> list[str]:
        if not rows or not columns:
            return []
        stem = f"{source}_{what}"
        arrays[f"{stem}_pixels"] = np.broadcast_to(pixels.astype(np.uint8), (1, rows, columns, len(pixels))).copy()
        nodes.append(helper.make_node("Expand", [f"{stem}_pixels", count], [stem], stem))
        return [stem]

    across = f"{source}_across"
    nodes_before = [*border("left", height, left), source, *border("right", height, right)]
    nodes.append(helper.make_node("Concat", nodes_before, [across], across, axis=2))
    whole = f"{source}_bordered"
    wide = left + width + right
    parts = [*border("above", top, wide), across, *border("below", bottom, wide)]
    nodes.append(helper.make_node("Concat", parts, [whole], whole, axis=1))
    return nodes, whole
