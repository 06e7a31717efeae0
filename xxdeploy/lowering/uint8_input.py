"""uint8 input for an INT8 model: no float image, no arithmetic before the network."""

from __future__ import annotations

import json

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.runtime.image.grid import METADATA

with extra("export"):
    from onnx import NodeProto, TensorProto


def take_uint8_input(model: OnnxModel, step: float, center: float) -> OnnxModel:
    """Return the INT8 ``model`` with uint8 input if its integers are the pixels themselves, else ``model``.

    ``step`` and ``center`` are the scaling of a picture: ``x = (pixel - center) * step``. The image's quantizer, with
    the Sub of ``center_pixels.shift_input`` before it, then restores the pixel. Both are removed, and the results are
    bit-identical. Metadata ``xxdeploy.pixels`` holds ``{"step": ..., "centre": ...}``, so that a runtime can convert a
    scaled image.
    """
    graph = Graph(model)
    (source,) = graph.inputs
    node, shift = graph.only_consumer(source), 0.0
    first = node
    if node is not None and node.op_type == "Sub" and node.input[1] in graph.constants:
        if graph.constants[node.input[1]].size != 1:  # the model's own normalization of each channel
            return model
        shift = -float(graph.constants[node.input[1]].reshape(()))
        node = graph.only_consumer(node.output[0])
    if node is None or first is None or node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return model
    scale, zero = (graph.constants[name] for name in node.input[1:3])
    # Pixel 255 must become 255: a relative error of a thousandth is a quarter of a step there.
    if zero.dtype != "uint8" or abs(float(scale) / step - 1) > 1e-4 or abs(center - shift / step - int(zero)) > 1e-3:
        return model
    removed = {*first.output, *node.output}
    kept = [other for other in graph.nodes if removed.isdisjoint(other.output)]
    for reader in kept:
        reader.input[:] = [source if name == node.output[0] else name for name in reader.input]
    graph.header.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph.note(METADATA, json.dumps({"step": step, "centre": center}))
    return graph.with_nodes(dequantize_before_transpose(kept, source))


def dequantize_before_transpose(nodes: list[NodeProto], source: str) -> list[NodeProto]:
    """Move the Q/DQ pairs around the image's Transpose to NCHW before it; ``source`` is the image, or its border.

    ONNX Runtime optimizes both orders to the same graph. OpenVINO moves the bytes twice if arithmetic follows a
    Transpose, and not at all otherwise.
    """
    chain, at = list[NodeProto](), source
    for kind in ("DequantizeLinear", "Transpose", "QuantizeLinear", "DequantizeLinear"):
        readers = [node for node in nodes if at in node.input]
        if len(readers) != 1 or readers[0].op_type != kind:
            return nodes
        chain.append(readers[0])
        at = readers[0].output[0]
    first, transpose, quantizer, last = chain
    quantizer.input[0] = first.output[0]
    quantizer.output[0] = last.input[0] = f"{source}_again_quantized"
    transpose.input[0], transpose.output[0] = f"{source}_again_dequantized", last.output[0]
    last.output[0] = transpose.input[0]
    rest = [node for node in nodes if node is not transpose]
    rest.insert(rest.index(last) + 1, transpose)
    return rest


def dequantize_after_transpose(model: OnnxModel) -> OnnxModel:
    """Undo :func:`dequantize_before_transpose`, so that the first layer reads a Q/DQ pair; other models stay."""
    graph = Graph(model)
    if len(graph.inputs) != 1:
        return model
    (source,) = graph.inputs
    while (border := _border(graph, source)) is not None:
        source = border
    chain, name = list[NodeProto](), source
    for kind in ("DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "Transpose"):
        node = graph.only_consumer(name)
        if node is None or node.op_type != kind:
            return model
        chain.append(node)
        name = node.output[0]
    first, quantizer, last, transpose = chain
    moved = f"{source}_nchw"
    changes: dict[str, tuple[str, str]] = {
        transpose.output[0]: (first.output[0], moved),
        quantizer.output[0]: (moved, f"{moved}_quantized"),
        last.output[0]: (f"{moved}_quantized", transpose.output[0]),
    }
    turned: list[NodeProto] = []
    rest: list[NodeProto] = []
    for node in graph.nodes:
        made = node.output[0]
        if made in changes:
            node.input[0], node.output[0] = changes[made]
            turned.append(node)
        else:
            rest.append(node)
    at = next(index for index, node in enumerate(rest) if node.output[0] == first.output[0]) + 1
    order = sorted(turned, key=lambda node: ("Transpose", "QuantizeLinear", "DequantizeLinear").index(node.op_type))
    return graph.with_nodes([*rest[:at], *order, *rest[at:]])


def _border(graph: Graph, name: str) -> str | None:
    """Return the tensor with a border around the picture ``name`` (:mod:`xxdeploy.lowering.uint8_channels`), if any."""
    readers = [node for node in graph.consumers().get(name, ()) if node.op_type == "Concat"]
    others = {node.op_type for node in graph.consumers().get(name, ())} - {"Concat", "Shape"}
    return str(readers[0].output[0]) if len(readers) == 1 and not others else None
