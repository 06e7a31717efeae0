"""Let an INT8 model take the picture's bytes: no float image, no arithmetic in front of the network."""

from __future__ import annotations

import json

from xxdeploy.onnxmodel.graph_view import GraphView, with_nodes
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.runtime.image.grid import METADATA

with extra("export"):
    from onnx import ModelProto, NodeProto, TensorProto


def take_pixels(model: OnnxModel, step: float, center: float) -> OnnxModel:
    """Return the INT8 ``model`` with uint8 input where its integers are the pixels themselves, else ``model``.

    ``step`` and ``center`` say how a picture was scaled: ``x = (pixel - center) * step``. The image's quantizer, and
    the Sub of ``lowering.shift_input`` in front of it, then give back the pixel, and both are taken out: the
    result computes the same, bit for bit. It holds ``{"step": ..., "centre": ...}`` as metadata ``xxdeploy.pixels``,
    for those who have a scaled image.
    """
    view = GraphView.of(model)
    (source,) = view.inputs
    node, shift = view.only_consumer(source), 0.0
    first = node
    if node is not None and node.op_type == "Sub" and node.input[1] in view.constants:
        shift = -float(view.constants[node.input[1]].reshape(()))
        node = view.only_consumer(node.output[0])
    if node is None or first is None or node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return model
    scale, zero = (view.constants[name] for name in node.input[1:3])
    # Pixel 255 must come out as 255: an error of a thousandth of a step a step is a quarter of one there.
    if zero.dtype != "uint8" or abs(float(scale) / step - 1) > 1e-4 or abs(center - shift / step - int(zero)) > 1e-3:
        return model
    proto = ModelProto()
    proto.CopyFrom(view.proto)
    gone = {*first.output, *node.output}
    kept = [each for each in proto.graph.node if gone.isdisjoint(each.output)]
    for each in kept:
        each.input[:] = [source if name == node.output[0] else name for name in each.input]
    next(value for value in proto.graph.input if value.name == source).type.tensor_type.elem_type = TensorProto.UINT8
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps({"step": step, "centre": center})
    return with_nodes(proto, scaled_first(kept, source), view.arrays)


def scaled_first(nodes: list[NodeProto], source: str) -> list[NodeProto]:
    """Put the pairs of ``source``, the image or made of it, in front of the Transpose to NCHW that is between them.

    ONNX Runtime makes the same of both. OpenVINO moves the bytes twice where arithmetic stands behind a Transpose, and
    not at all where there is none.
    """
    found, at = list[NodeProto](), source
    for kind in ("DequantizeLinear", "Transpose", "QuantizeLinear", "DequantizeLinear"):
        readers = [node for node in nodes if at in node.input]
        if len(readers) != 1 or readers[0].op_type != kind:
            return nodes
        found.append(readers[0])
        at = readers[0].output[0]
    first, transpose, quantizer, last = found
    quantizer.input[0] = first.output[0]
    quantizer.output[0] = last.input[0] = f"{source}_again_quantized"
    transpose.input[0], transpose.output[0] = f"{source}_again_dequantized", last.output[0]
    last.output[0] = transpose.input[0]
    rest = [node for node in nodes if node is not transpose]
    rest.insert(rest.index(last) + 1, transpose)
    return rest


def scaled_last(model: OnnxModel) -> OnnxModel:
    """Put the image's Transpose back between its pairs, so that the first layer reads a pair; others stay."""
    view = GraphView.of(model)
    (source,) = view.inputs
    while (border := _border(view, source)) is not None:
        source = border
    chain, name = list[NodeProto](), source
    for kind in ("DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "Transpose"):
        node = view.only_consumer(name)
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
    proto = ModelProto()
    proto.CopyFrom(view.proto)
    behind: list[NodeProto] = []
    rest: list[NodeProto] = []
    for node in proto.graph.node:
        made = node.output[0]
        if made in changes:
            node.input[0], node.output[0] = changes[made]
            behind.append(node)
        else:
            rest.append(node)
    at = next(index for index, node in enumerate(rest) if node.output[0] == first.output[0]) + 1
    order = sorted(behind, key=lambda node: ("Transpose", "QuantizeLinear", "DequantizeLinear").index(node.op_type))
    return with_nodes(proto, [*rest[:at], *order, *rest[at:]], view.arrays)


def _border(view: GraphView, name: str) -> str | None:
    """Return what puts a border around the picture ``name`` (:mod:`xxdeploy.lowering.uint8_channels`), if anything."""
    readers = [node for node in view.consumers.get(name, ()) if node.op_type == "Concat"]
    others = {node.op_type for node in view.consumers.get(name, ())} - {"Concat", "Shape"}
    return str(readers[0].output[0]) if len(readers) == 1 and not others else None
