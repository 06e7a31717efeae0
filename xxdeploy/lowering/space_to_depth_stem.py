"""Space-to-depth for the first convolution: it reads four pixels of a row at once, enough channels for fast kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import VerificationError
from xxdeploy.onnxmodel.graph import Graph, attribute, attributes
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

with extra("export"):
    from onnx import NodeProto, helper

BLOCK = 4
"""Pixels of a row in a block. ONNX Runtime's convolution kernels read channels in groups of four."""
_GEOMETRY = ("kernel_shape", "strides", "pads")


@dataclass(frozen=True, slots=True)
class Stem:
    """A first layer with a square kernel, which pads ``before`` pixels left and above, ``after`` right and below."""

    kernel: int
    stride: int
    before: int
    after: int

    @property
    def pixels(self) -> int:
        """Number of output pixels per block."""
        return BLOCK // self.stride

    @property
    def reach(self) -> tuple[int, int]:
        """Number of blocks that an output reads before its own, and in all."""
        left = -(-self.before // BLOCK)
        return left, left + 1 + (BLOCK - self.stride - self.before + self.kernel - 1) // BLOCK

    def size(self, length: int) -> int:
        """Return the output size along a side of ``length`` pixels."""
        return (length + self.before + self.after - self.kernel) // self.stride + 1

    def blocks_after(self, width: int) -> int | None:
        """Return the blocks of zeros on the right of rows of ``width`` pixels; None if blocks do not fit the layer."""
        if BLOCK % self.stride or width <= 0 or width % BLOCK or self.size(width) % self.pixels:
            return None
        left, count = self.reach
        after = self.size(width) // self.pixels - 1 + count - width // BLOCK - left
        return after if after >= 0 and self.size(width) > 0 else None

    def attributes(self) -> dict[str, list[int]]:
        """Return the attributes of its Conv."""
        pads = [self.before, self.before, self.after, self.after]
        return {"kernel_shape": [self.kernel] * 2, "strides": [self.stride] * 2, "pads": pads}

    def blocked_attributes(self, width: int) -> dict[str, list[int]]:
        """Return the attributes of the Conv over blocks."""
        (left, count), right = self.reach, self.blocks_after(width) or 0
        pads = [self.before, left, self.after, right]
        return {"kernel_shape": [self.kernel, count], "strides": [self.stride, 1], "pads": pads}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Stem | None:
        """Read a Conv's attributes; None unless they are the same for rows and columns."""
        if values.get("group", 1) != 1 or values.get("auto_pad", "NOTSET") != "NOTSET":
            return None
        geometry = {"strides": [1, 1], "pads": [0] * 4, **{name: values[name] for name in _GEOMETRY if name in values}}
        stem = cls.of_rows(geometry) if len(geometry.get("kernel_shape", [])) == 2 else None
        same = stem is not None and stem.attributes() == {name: list(value) for name, value in geometry.items()}
        return stem if same and list(values.get("dilations", [1, 1])) == [1, 1] else None

    @classmethod
    def of_rows(cls, values: dict[str, Any]) -> Stem:
        """Read the rows' part of the attributes of a Conv over blocks, which is that of the layer."""
        return cls(values["kernel_shape"][0], values["strides"][0], values["pads"][0], values["pads"][2])


def space_to_depth_stem(model: OnnxModel) -> OnnxModel:
    """Return an INT8 ``model`` with uint8 input whose first layer reads blocks of pixels, or ``model`` if none can.

    A picture (height, width, c) has the same bytes as (height, width / 4, 4 c): space-to-depth along a row moves
    nothing. A 3x3 convolution with stride 2 becomes one of 3x2 with strides 2 and 1 over the blocks, which writes two
    neighboring pixels at once: first those at even places, then those at odd ones, and (height, width / 4,
    2 * channels) has the same bytes as the result; one with stride 1 writes four. Much of the larger kernel is zero,
    but its sums are the same, integer for integer.

    In ONNX Runtime such a layer, or any with one channel (LeNet), takes half the time with VNNI and 0.5 to 0.9 of it
    without. Other kernels over three channels (7x7, VGG's 3x3) gain less with VNNI, take up to 1.6 times as long
    without, and stay. So do layers whose output rows are no whole number of blocks (NASNet): a Slice would cost the
    gain. The file must be for processors with VNNI, or safe in every order of sums: the larger kernel's weights form
    other pairs (``quantize.x86.saturating_pairs``).
    """
    graph = Graph(model)
    (source,) = graph.inputs
    shape = [dim.dim_value for dim in graph.header.graph.input[0].type.tensor_type.shape.dim]
    chain = _chain(graph, source)
    if chain is None or len(shape) != 4 or not shape[3] % BLOCK or shape[1] <= 0:
        return model
    names, stem = _constants(graph, chain[1]), Stem.of(attributes(chain[1]))
    if names is None or stem is None or stem.blocks_after(shape[2]) is None:
        return model
    if shape[3] != 1 and (stem.kernel, stem.stride) != (3, 2):
        return model
    if graph.arrays[names[0]].shape[1:] != (shape[3], stem.kernel, stem.kernel):
        return model
    arrays = graph.arrays
    channels = len(arrays[names[0]])
    arrays[names[0]] = weights_over_blocks(arrays[names[0]], stem)
    arrays.update((name, np.concatenate([arrays[name]] * stem.pixels)) for name in names[1:])
    pixels, conv, quantizer = chain
    layer, made = conv.output[0], quantizer.output[0]
    arrays[f"{layer}_rows"] = np.array([0, shape[1], shape[2] // BLOCK, shape[3] * BLOCK])
    arrays[f"{layer}_pixels"] = np.array([0, stem.size(shape[1]), stem.size(shape[2]), channels])
    blocks, several = (f"{layer}_{what}" for what in ("blocks", "pairs"))
    pixels.input[0], quantizer.output[0] = blocks, several
    _describe(conv, stem.blocked_attributes(shape[2]))
    steps: list[tuple[str, str, list[str], dict[str, Any]]] = [
        ("DequantizeLinear", "dequantized", list(quantizer.input[1:]), {}),
        ("Transpose", "nhwc", [], {"perm": [0, 2, 3, 1]}),
        ("Reshape", "apart", [f"{layer}_pixels"], {}),
        ("Transpose", "nchw", [], {"perm": [0, 3, 1, 2]}),
    ]
    # As a Q/DQ pair: OpenVINO treats operators on bare integers after a layer as float.
    after, at = [], several
    for op, what, operands, values in steps:
        after.append(helper.make_node(op, [at, *operands], [f"{several}_{what}"], f"{several}_{what}", **values))
        at = f"{several}_{what}"
    after.append(helper.make_node("QuantizeLinear", [at, *quantizer.input[1:]], [made], f"{several}_quantized"))
    position = graph.position(quantizer) + 1
    nodes = [*graph.nodes[:position], *after, *graph.nodes[position:]]
    front = helper.make_node("Reshape", [source, f"{layer}_rows"], [blocks], blocks)
    return graph.with_nodes([front, *nodes])


def undo_space_to_depth_stem(model: OnnxModel) -> OnnxModel:
    """Undo :func:`space_to_depth_stem`, to compare a file with its float graph; return any other model as it is.

    Raises ``VerificationError`` (``wrong-weight``: the first layer cannot come from ``space_to_depth_stem``).
    """
    graph = Graph(model)
    if len(graph.inputs) != 1:
        return model
    (source,) = graph.inputs
    front = graph.only_consumer(source)
    if front is None or front.op_type != "Reshape" or not front.output[0].endswith("_blocks"):
        return model
    layer = front.output[0].removesuffix("_blocks")
    try:
        return _undone(graph, source, front, layer)
    # A node, an attribute or an array is missing or has another shape.
    except (ArithmeticError, LookupError, StopIteration, ValueError) as error:
        raise _wrong(layer) from error


def _undone(graph: Graph, source: str, front: NodeProto, layer: str) -> OnnxModel:
    nodes = {node.output[0]: node for node in graph.nodes}
    several, conv = f"{layer}_pairs", nodes[layer]
    names = [name for maker in conv.input[1:] for name in nodes[maker].input]
    arrays = graph.arrays
    stem = Stem.of_rows(attributes(conv))
    weights = weights_from_blocks(arrays[names[0]], stem)
    if weights is None or any(len(arrays[name]) % stem.pixels for name in names[1:]):
        raise _wrong(layer)
    apart = {name: arrays[name].reshape(stem.pixels, -1) for name in names[1:]}
    if any((values != values[0]).any() for values in apart.values()):
        raise _wrong(layer)
    arrays.update({names[0]: weights}, **{name: values[0].copy() for name, values in apart.items()})
    for node in graph.nodes:
        node.input[:] = [source if name == front.output[0] else name for name in node.input]
    _describe(conv, stem.attributes())
    removed, last = {front.output[0]}, next(node for node in graph.nodes if node.input[0] == several)
    while last.op_type != "QuantizeLinear":
        removed.add(last.output[0])
        last = next(node for node in graph.nodes if node.input[0] == last.output[0])
    removed.add(last.output[0])
    kept = [node for node in graph.nodes if node.output[0] not in removed]
    nodes[several].output[0] = last.output[0]
    return graph.with_nodes(kept)


def weights_over_blocks(weights: NDArray[np.int8], stem: Stem) -> NDArray[np.int8]:
    """Turn (channels, c, kernel, kernel) weights into (pixels * channels, 4 c, kernel, blocks) ones over blocks."""
    left, count = stem.reach
    # pixel, channel, place, color, row, block
    made = np.zeros((stem.pixels, len(weights), BLOCK, weights.shape[1], stem.kernel, count), weights.dtype)
    for pixel in range(stem.pixels):
        for column in range(stem.kernel):
            block, place = divmod(stem.stride * pixel + column - stem.before, BLOCK)
            made[pixel, :, place, :, :, left + block] = weights[:, :, :, column]
    return made.reshape(stem.pixels * len(weights), -1, stem.kernel, count)


def weights_from_blocks(weights: NDArray[np.int8], stem: Stem) -> NDArray[np.int8] | None:
    """Undo :func:`weights_over_blocks`; None if it cannot have made ``weights``."""
    left, count = stem.reach
    if weights.ndim != 4 or len(weights) % stem.pixels or weights.shape[1] % BLOCK:
        return None
    if weights.shape[2:] != (stem.kernel, count):
        return None
    first = weights.reshape(stem.pixels, -1, BLOCK, weights.shape[1] // BLOCK, stem.kernel, count)[0]
    places = [divmod(column - stem.before, BLOCK) for column in range(stem.kernel)]
    weights_of_one = np.stack([first[:, place, :, :, left + block] for block, place in places], axis=3)
    return weights_of_one if np.array_equal(weights_over_blocks(weights_of_one, stem), weights) else None


def _wrong(layer: str) -> VerificationError:
    return VerificationError(
        f"{layer}: the first layer does not have the space-to-depth weight layout that the file declares",
        hint="export the bundle again",
        code="wrong-weight",
    )


def _describe(conv: NodeProto, values: dict[str, list[int]]) -> None:
    del conv.attribute[:]
    conv.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())


def _chain(graph: Graph, source: str) -> tuple[NodeProto, NodeProto, NodeProto] | None:
    """Return DequantizeLinear, Conv and the next quantizer, if nothing else but the Transpose to NCHW reads the image.

    A model may exchange rows and columns by a Transpose of its own: then the image has no rows of the layer's blocks.
    """
    chain, name, skipped = [], source, ("Transpose", "QuantizeLinear", "DequantizeLinear")
    turns = []
    for kind, between in (("DequantizeLinear", ()), ("Conv", skipped), ("QuantizeLinear", ("Relu", "Clip"))):
        node = graph.only_consumer(name)
        while node is not None and node.op_type in between:
            turns += [list(attribute(node, "perm", []))] if node.op_type == "Transpose" else []
            node = graph.only_consumer(node.output[0])
        if node is None or node.op_type != kind:
            return None
        chain.append(node)
        name = node.output[0]
    return (chain[0], chain[1], chain[2]) if turns in ([], [[0, 3, 1, 2]]) else None


def _constants(graph: Graph, conv: NodeProto) -> list[str] | None:
    """Return the initializers of a convolution, integer weights first; None if another node reads one of them."""
    makers = [graph.producers().get(name) for name in conv.input[1:]]
    if len(makers) != 2 or any(node is None or node.op_type != "DequantizeLinear" for node in makers):
        return None
    names = [name for node in makers if node is not None for name in node.input]
    own = all(len(graph.consumers()[name]) == 1 and name in graph.arrays for name in names)
    return names if own and all(graph.arrays[name].ndim for name in names) else None
