"""Let the first convolution read four pixels of a row at once: its three channels are one too few for fast kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.artifacts import OnnxModel
from xxdeploy.errors import VerificationError
from xxdeploy.optional import extra
from xxdeploy.quantize.graph_view import GraphView, attributes, with_nodes

with extra("export"):
    from onnx import ModelProto, NodeProto, helper

BLOCK = 4
"""Pixels of a row in a block. ONNX Runtime's convolution kernels take channels by fours, and 12 is the first such."""


def block_stem(model: OnnxModel) -> OnnxModel:
    """Return an INT8 ``model`` on pixels whose first layer, 3x3 with stride 2, reads blocks of pixels, else ``model``.

    A row of a picture (height, width, 3) is the same bytes as (height, width / 4, 12). A 3x3 convolution with stride 2
    becomes one of 3x2 with strides 2 and 1 over the blocks, which writes two neighbouring pixels at once: first those
    at even places, then those at odd ones, and (height, width / 4, 2 * channels) are the same bytes as the result. Most
    of the larger kernel is zero, but its sums are those of the other, integer for integer. In ONNX Runtime the layer
    takes half the time; where it pads nothing (NASNet), a Slice would take back what it gains. The file must be one
    for processors with VNNI, or safe for those without in every order: the larger kernel's weights meet in other pairs
    (:mod:`xxdeploy.quantize.pairs`).
    """
    view = GraphView.of(model)
    proto = ModelProto()
    proto.CopyFrom(view.proto)
    (source,) = view.inputs
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    chain = _chain(view, source)
    if chain is None or len(shape) != 4 or shape[3] != 3 or shape[1] % 2 or shape[2] % BLOCK or not shape[2]:
        return model
    names = _constants(view, chain[1])
    if names is None or view.arrays[names[0]].shape[1:] != (3, 3, 3):
        return model
    arrays: dict[str, NDArray[Any]] = dict(view.arrays)
    channels = len(arrays[names[0]])
    arrays[names[0]] = blocked(arrays[names[0]])
    arrays.update((name, np.concatenate([arrays[name]] * 2)) for name in names[1:])
    position = {node.output[0]: index for index, node in enumerate(proto.graph.node)}
    pixels, conv, quantizer = (proto.graph.node[position[node.output[0]]] for node in chain)
    stem, made = conv.output[0], quantizer.output[0]
    arrays[f"{stem}_rows"] = np.array([0, shape[1], shape[2] // BLOCK, 3 * BLOCK])
    arrays[f"{stem}_pixels"] = np.array([0, shape[1] // 2, shape[2] // 2, channels])
    blocks, pairs = (f"{stem}_{what}" for what in ("blocks", "pairs"))
    pixels.input[0], quantizer.output[0] = blocks, pairs
    del conv.attribute[:]
    for name, value in {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 0, 1, 1]}.items():
        conv.attribute.append(helper.make_attribute(name, value))
    steps: list[tuple[str, str, list[str], dict[str, Any]]] = [
        ("DequantizeLinear", "dequantized", list(quantizer.input[1:]), {}),
        ("Transpose", "nhwc", [], {"perm": [0, 2, 3, 1]}),
        ("Reshape", "apart", [f"{stem}_pixels"], {}),
        ("Transpose", "nchw", [], {"perm": [0, 3, 1, 2]}),
    ]
    # In pairs: OpenVINO takes what follows a layer of integers alone for float.
    behind, at = [], pairs
    for op, what, operands, values in steps:
        behind.append(helper.make_node(op, [at, *operands], [f"{pairs}_{what}"], f"{pairs}_{what}", **values))
        at = f"{pairs}_{what}"
    behind.append(helper.make_node("QuantizeLinear", [at, *quantizer.input[1:]], [made], f"{pairs}_quantized"))
    nodes = list(proto.graph.node)
    nodes[position[made] + 1 : position[made] + 1] = behind
    front = helper.make_node("Reshape", [source, f"{stem}_rows"], [blocks], blocks)
    return with_nodes(proto, [front, *nodes], arrays)


def unblock_stem(model: OnnxModel) -> OnnxModel:
    """Undo :func:`block_stem`: for who compares a file with its float graph, tensor by tensor. Others stay as they are.

    Raises
    ------
    VerificationError
        ``wrong-weight``: the first layer's weights are not what ``block_stem`` makes of any.
    """
    view = GraphView.of(model)
    (source,) = view.inputs
    front = view.only_consumer(source)
    if front is None or front.op_type != "Reshape" or not front.output[0].endswith("_blocks"):
        return model
    stem = front.output[0].removesuffix("_blocks")
    proto = ModelProto()
    proto.CopyFrom(view.proto)
    nodes = {node.output[0]: node for node in proto.graph.node}
    pairs = f"{stem}_pairs"
    names = [name for maker in nodes[stem].input[1:] for name in nodes[maker].input]
    arrays: dict[str, NDArray[Any]] = dict(view.arrays)
    channels = len(arrays[names[0]]) // 2
    halves = arrays[names[0]].reshape(2, channels, BLOCK, 3, 3, 2)
    weights = np.ascontiguousarray(halves[0, :, :3, :, :, 0].transpose(0, 2, 3, 1))
    same = all(np.array_equal(arrays[name][:channels], arrays[name][channels:]) for name in names[1:])
    if not same or not np.array_equal(blocked(weights), arrays[names[0]]):
        raise VerificationError(
            f"{stem}: the first layer's weights differ between neighbouring pixels",
            hint="export the bundle again",
            code="wrong-weight",
        )
    arrays[names[0]] = weights
    arrays.update((name, arrays[name][:channels]) for name in names[1:])
    for node in proto.graph.node:
        node.input[:] = [source if name == front.output[0] else name for name in node.input]
    conv, quantizer = nodes[stem], nodes[pairs]
    del conv.attribute[:]
    for name, value in {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}.items():
        conv.attribute.append(helper.make_attribute(name, value))
    gone, last = {front.output[0]}, next(node for node in proto.graph.node if node.input[0] == pairs)
    while last.op_type != "QuantizeLinear":
        gone.add(last.output[0])
        last = next(node for node in proto.graph.node if node.input[0] == last.output[0])
    gone.add(last.output[0])
    kept = [node for node in proto.graph.node if node.output[0] not in gone]
    quantizer.output[0] = last.output[0]
    return with_nodes(proto, kept, arrays)


def blocked(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """Turn (channels, 3, 3, 3) weights into (2 * channels, 12, 3, 2) ones over blocks of four pixels."""
    made = np.zeros((2, len(weights), BLOCK, 3, 3, 2), weights.dtype)  # pixel, channel, place, colour, row, block
    for pixel in range(2):
        for column in range(3):
            block, place = divmod(2 * pixel + column, BLOCK)
            made[pixel, :, place, :, :, block] = weights[:, :, :, column]
    return made.reshape(2 * len(weights), 3 * BLOCK, 3, 2)


def _chain(view: GraphView, source: str) -> tuple[NodeProto, NodeProto, NodeProto] | None:
    """Return DequantizeLinear, Conv and the quantiser behind it, if they alone read the image, with a Transpose."""
    found, name, skipped = [], source, ("Transpose", "QuantizeLinear", "DequantizeLinear")
    for kind, between in (("DequantizeLinear", ()), ("Conv", skipped), ("QuantizeLinear", ("Relu", "Clip"))):
        node = view.only_consumer(name)
        while node is not None and node.op_type in between:
            node = view.only_consumer(node.output[0])
        if node is None or node.op_type != kind:
            return None
        found.append(node)
        name = node.output[0]
    return found[0], found[1], found[2]


def _constants(view: GraphView, conv: NodeProto) -> list[str] | None:
    """Return the initialisers of a convolution that can be changed, integer weights first; they are its own."""
    values = attributes(conv)
    makers = [view.producers.get(name) for name in conv.input[1:]]
    if len(makers) != 2 or any(node is None or node.op_type != "DequantizeLinear" for node in makers):
        return None
    if values.get("group", 1) != 1 or list(values.get("dilations", [1, 1])) != [1, 1]:
        return None
    if list(values.get("strides", [])) != [2, 2] or list(values.get("pads", [])) != [0, 0, 1, 1]:
        return None
    names = [name for node in makers if node is not None for name in node.input]
    own = all(len(view.consumers[name]) == 1 and name in view.arrays for name in names)
    return names if own and all(view.arrays[name].ndim for name in names) else None
