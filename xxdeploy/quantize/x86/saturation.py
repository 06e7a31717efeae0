"""Emulate an INT8 graph's results on x86 processors without VNNI, as a graph that runs on any processor.

Those processors add two products in 16 bits with saturation (``quantize.x86.saturating_pairs``), and a model that is
exact with VNNI can be wrong on them. Only a few pairs of a layer can overflow, and the loss of an overflow is::

    lost = max(s - 32767, 0) - max(-32768 - s, 0)        with s = x0 * w0 + x1 * w1

So a layer becomes: its sum over integers (in float, exact up to 2^24), minus a small convolution that computes ``lost``
for the pairs that can overflow, then the scaling and rounding of ONNX Runtime. Layers without such pairs stay as they
are. The result equals execution on an emulated Haswell, integer for integer
(``tests/quantize/x86/test_saturation_executed.py``).

That holds for uint8 activations. Int8 activations are for ARM; on x86 ONNX Runtime exchanges some for uint8 and runs
layers between them in float. The emulation treats every layer as integer, and so saturates more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, attributes, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import Batches
from xxdeploy.quantize.policy import weight_axis
from xxdeploy.quantize.x86.reach import Reach, guard, observe_reach, poison
from xxdeploy.quantize.x86.saturating_pairs import adds_in_16_bits, kernel_rows, saturating_pairs

with extra("export"):
    from onnx import NodeProto, TensorProto, helper

_CLIP_SLACK = 1.2e-7
"""ONNX Runtime removes a Clip if the quantizer clips at the same place to within this."""


BEYOND = "beyond_reach"
"""The tensor that tells whether an image goes beyond the pairs of an emulation."""


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """A layer of a Q/DQ graph that ONNX Runtime runs on integers.

    ``source`` is the quantized input with ``input_scale`` and ``input_zero``; ``values`` int8 are the weights with
    output channels along ``axis``, with ``weight_scale`` float32 (channels,) and ``weight_zero`` (channels,); ``bias``
    float64 (channels,) is in units of the sum. ``quantizer`` is the next QuantizeLinear, None if the layer writes
    float, and ``between`` are the activations that it makes redundant. ``name`` is the layer's name in the float graph.
    """

    name: str
    node: NodeProto
    source: str
    input_scale: np.float32
    input_zero: NDArray[Any]
    values: NDArray[np.int8]
    axis: int
    weight_scale: NDArray[np.float32]
    weight_zero: NDArray[Any]
    bias: NDArray[np.float64]
    quantizer: NodeProto | None
    between: tuple[NodeProto, ...] = field(repr=False)

    @property
    def adds_in_16_bits(self) -> bool:
        """Whether processors without VNNI add this layer's products in 16 bits."""
        return adds_in_16_bits(self.node, self.values.shape)


@dataclass(frozen=True, slots=True)
class Tap:
    """Tensors that show the saturation of one layer of an emulation.

    ``lost`` is the error of the output by overflow, in real units; ``output`` is the layer's output: quantized with
    the real value ``step`` of one integer, or float if ``step`` is None. ``pairs`` is how many pairs can overflow.
    """

    layer: IntegerLayer
    pairs: int
    lost: str
    output: str
    step: float | None


def emulate_avx2(int8: OnnxModel, batches: Batches | None = None) -> OnnxModel:
    """Return a graph that has the results of ``int8`` on x86 with AVX2 and without VNNI, on any processor.

    Input and output are the same. It takes five to a hundred times as long as ``int8``. With ``batches``, preprocessed
    images, it leaves out pairs that cannot overflow on them, which is faster: outputs are NaN for an image on which one
    of these might. If no weights can overflow, it is ``int8`` itself. Raises ``ConversionError`` (``unreadable-onnx``;
    ``calibration-run``: a batch does not fit the graph).
    """
    graph = Graph(int8)
    risky = risky_by_output(graph)
    if not risky:
        return int8
    if batches is None:
        return rewrite(graph, risky)[0]
    reach = observe_reach(int8, risky, batches)
    emulated = Graph(rewrite(graph, risky, reach=reach)[0])
    guards, arrays = guard(risky, reach, BEYOND)
    nodes, more = poison([*emulated.nodes, *guards], emulated.outputs, BEYOND)
    emulated.nodes = nodes
    emulated.arrays |= arrays | more
    return emulated.to_model()


def risky_by_output(graph: Graph) -> dict[str, IntegerLayer]:
    """Return the layers in which a pair can overflow for some input, by their output."""
    return {layer.node.output[0]: layer for layer in integer_layers(graph) if count_saturating_pairs(layer)}


def count_saturating_pairs(layer: IntegerLayer) -> int:
    """Return how many pairs of weights can overflow 16 bits for some input; 0 if the layer is exact everywhere."""
    return len(saturating_pairs(layer.values, layer.axis)[0]) if layer.adds_in_16_bits else 0


def integer_layers(graph: Graph) -> tuple[IntegerLayer, ...]:
    """Return the Conv, Gemm and MatMul of a Q/DQ graph that run on integers with int8 weights, in graph order."""
    layers = (_integer_layer(graph, node) for node in graph.nodes if node.op_type in ("Conv", "Gemm", "MatMul"))
    return tuple(layer for layer in layers if layer is not None)


def _integer_layer(graph: Graph, node: NodeProto) -> IntegerLayer | None:
    """Read one layer; None if ONNX Runtime runs it in float because of an operand or of the next node."""
    operands = [_dequantized(graph, name) for name in node.input if name]
    if len(operands) < 2 or any(operand is None for operand in operands):
        return None
    (source, scale, zero), (weights, weight_scale, weight_zero), *rest = [
        operand for operand in operands if operand is not None
    ]
    values = graph.constants.get(weights)
    if source in graph.constants or scale.size != 1 or values is None or values.dtype != np.int8:
        return None
    if node.op_type == "MatMul" and values.ndim != 2:
        return None
    axis = weight_axis(node)
    channels = values.shape[axis]
    bias = np.zeros(channels)
    if rest:
        if rest[0][0] not in graph.constants or node.op_type == "MatMul":
            return None
        bias = np.broadcast_to(graph.constants[rest[0][0]].astype(np.float64).reshape(-1), (channels,))
    quantizer, between = _quantizer(graph, node)
    if quantizer is None and node.op_type == "Conv":
        return None
    end = graph.only_consumer(quantizer.output[0]) if quantizer is not None else None
    ends = end is not None and node.output[0] == f"{end.output[0]}_float"
    return IntegerLayer(
        name=node.name or (end.output[0] if ends and end is not None else layer_name(node)),
        node=node,
        source=source,
        input_scale=np.float32(scale.reshape(())),
        input_zero=zero.reshape(()),
        values=values,
        axis=axis,
        weight_scale=np.broadcast_to(weight_scale.reshape(-1), (channels,)),
        weight_zero=np.broadcast_to(weight_zero.reshape(-1), (channels,)),
        bias=bias,
        quantizer=quantizer,
        between=between,
    )


def _dequantized(graph: Graph, name: str) -> tuple[str, NDArray[Any], NDArray[Any]] | None:
    """Return the integer tensor that ``name`` is dequantized from, its scale and its zero point; None if it is not."""
    node = graph.producers().get(name)
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in graph.constants:
        return None
    scale = graph.constants[node.input[1]]
    if len(node.input) < 3 or not node.input[2]:
        return node.input[0], scale, np.zeros(scale.shape, np.uint8)
    zero = graph.constants.get(node.input[2])
    return None if zero is None else (node.input[0], scale, zero)


def _quantizer(graph: Graph, node: NodeProto) -> tuple[NodeProto | None, tuple[NodeProto, ...]]:
    """Return the quantizer that is part of a layer's kernel, and the activations in between that it makes redundant."""
    between: list[NodeProto] = []
    reader = graph.only_consumer(node.output[0])
    while reader is not None and reader.op_type in ("Relu", "Clip"):
        between.append(reader)
        reader = graph.only_consumer(reader.output[0])
    if reader is None or reader.op_type != "QuantizeLinear":
        return None, ()
    if any(name not in graph.constants for name in reader.input[1:]) or len(reader.input) < 3:
        return None, ()
    scale, zero = (graph.constants[name] for name in reader.input[1:3])
    info = np.iinfo(zero.dtype)
    step = np.float32(scale.reshape(()))  # in float32, as ONNX Runtime compares
    low, high = (float(np.float32(edge - int(zero.reshape(()))) * step) for edge in (info.min, info.max))
    if any(not _redundant(graph, activation, low, high) for activation in between):
        return None, ()
    return reader, tuple(between)


def _redundant(graph: Graph, node: NodeProto, low: float, high: float) -> bool:
    """Tell whether a quantizer over ``low..high`` makes an activation redundant."""
    if node.op_type == "Relu":
        return low >= 0
    bounds = [graph.constants.get(name) if name else None for name in (*node.input[1:], "", "")]
    least = -np.inf if bounds[0] is None else float(bounds[0].reshape(()))
    most = np.inf if bounds[1] is None else float(bounds[1].reshape(()))
    return least <= low + _CLIP_SLACK and high <= most + _CLIP_SLACK


def rewrite(
    graph: Graph, risky: Mapping[str, IntegerLayer], *, tapped: bool = False, reach: Reach | None = None
) -> tuple[OnnxModel, tuple[Tap, ...]]:
    """Replace the layers ``risky``, by their output, by their emulation; edits ``graph``.

    The taps, one per layer, name tensors of the graph only if ``tapped``; they are not outputs of it. With ``reach``
    pairs that cannot overflow within it are left out, and layers without any other stay as they are.
    """
    writer = _Writer(dict(graph.arrays), reach)
    if reach is not None:
        risky = {name: layer for name, layer in risky.items() if len(writer.pairs_of(layer).signs) > 1}
    replaced = {id(node) for layer in risky.values() for node in (*layer.between, layer.quantizer) if node is not None}
    for node in graph.nodes:
        if node.output[0] in risky:
            writer.layer(risky[node.output[0]], graph)
        elif id(node) not in replaced:
            writer.nodes.append(node)
    wanted = {tap.lost for tap in writer.taps} if tapped else set()
    graph.nodes, graph.arrays = _alive(writer.nodes, wanted.union(graph.outputs)), writer.arrays
    return graph.to_model(), tuple(writer.taps)


def _alive(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """Return the nodes that lead to ``wanted``."""
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


class _Writer:
    """Collects the nodes and initializers of an emulation."""

    def __init__(self, arrays: dict[str, NDArray[Any]], reach: Reach | None) -> None:
        self.arrays, self._reach = arrays, reach
        self._pairs: dict[str, _SaturatingPairs] = {}
        self.nodes: list[NodeProto] = []
        self.taps: list[Tap] = []

    def layer(self, layer: IntegerLayer, graph: Graph) -> None:
        """Write one layer: the exact sum minus the loss by overflow, scaled as in ONNX Runtime."""
        stem = f"{layer.node.output[0]}_avx2"
        number = self._add("Cast", [layer.source], f"{stem}_stored", to=TensorProto.FLOAT)
        zero = self._array(f"{stem}_zero", np.asarray(layer.input_zero, np.float32))
        centered = self._add("Sub", [number, zero], f"{stem}_centred")
        pairs = self.pairs_of(layer)
        over = self._pair_sums(layer, pairs, centered, stem)
        signed = self._add("Mul", [over, self._channels(layer, f"{stem}_signs", pairs.signs)], f"{stem}_signed")
        lost = self._by_channel(layer, pairs, signed, f"{stem}_lost")
        left = self._add("Sub", [self._sum(layer, centered, stem), lost], f"{stem}_saturated")
        step, output, factor = None, layer.node.output[0], layer.input_scale * layer.weight_scale
        if layer.quantizer is None:
            self._add("Mul", [left, self._channels(layer, f"{stem}_factor", factor)], output)
        else:
            step, output = graph.constants[layer.quantizer.input[1]].reshape(()), layer.quantizer.output[0]
            steps = self._add("Mul", [left, self._channels(layer, f"{stem}_factor", factor / step)], f"{stem}_steps")
            one = self._array(f"{stem}_one", np.ones((), np.float32))
            self._add("QuantizeLinear", [steps, one, layer.quantizer.input[2]], output)
        real = self._add("Mul", [lost, self._channels(layer, f"{stem}_unit", factor)], f"{stem}_lost_real")
        self.taps.append(Tap(layer, count_saturating_pairs(layer), real, output, None if step is None else float(step)))

    def pairs_of(self, layer: IntegerLayer) -> _SaturatingPairs:
        """Return the pairs of a layer that are emulated."""
        name = layer.node.output[0]
        if name not in self._pairs:
            self._pairs[name] = _SaturatingPairs.of(layer, None if self._reach is None else self._reach[name])
        return self._pairs[name]

    def _sum(self, layer: IntegerLayer, centered: str, stem: str) -> str:
        """Multiply and add as the layer does, exactly."""
        along = [-1 if index == layer.axis else 1 for index in range(layer.values.ndim)]
        weights = layer.values.astype(np.float32) - layer.weight_zero.astype(np.float32).reshape(along)
        operands = [centered, self._array(f"{stem}_weights", weights)]
        bias = self._array(f"{stem}_bias", layer.bias.astype(np.float32))
        if layer.node.op_type == "MatMul":
            return self._add("Add", [self._add("MatMul", operands, f"{stem}_product"), bias], f"{stem}_sum")
        return self._add(layer.node.op_type, [*operands, bias], f"{stem}_sum", **attributes(layer.node))

    def _pair_sums(self, layer: IntegerLayer, pairs: _SaturatingPairs, centered: str, stem: str) -> str:
        """Return the loss of each pair, without sign: the products of its two inputs, and a threshold."""
        axis, source = -1, centered
        if layer.node.op_type == "Conv":
            axis, source = 1, self._positions(layer, pairs, centered, stem)
        over = self._channels(layer, f"{stem}_bounds", -pairs.bounds)
        for side in (0, 1):
            picked = self._array(f"{stem}_picked_{side}", pairs.picked[:, side])
            inputs = self._add("Gather", [source, picked], f"{stem}_inputs_{side}", axis=axis)
            weights = self._channels(layer, f"{stem}_pair_weights_{side}", pairs.weights[:, side])
            product = self._add("Mul", [inputs, weights], f"{stem}_product_{side}")
            over = self._add("Add", [product, over], f"{stem}_over_{side}")
        return self._add("Relu", [over], f"{stem}_lost_by_pair")

    def _positions(self, layer: IntegerLayer, pairs: _SaturatingPairs, centered: str, stem: str) -> str:
        """Return what the kernel reads of each input channel at each of ``pairs.positions``.

        A depthwise convolution with a one at a position copies it. One group for each pair instead would take a call
        for each pair: ResNet50 has a hundred thousand.
        """
        size, settings = layer.values.shape[2:], attributes(layer.node)
        if int(np.prod(size)) == 1 and all(stride == 1 for stride in settings.get("strides", ())):
            return centered
        ones = np.eye(int(np.prod(size)), dtype=np.float32)[pairs.positions]
        channels = layer.values.shape[1] * settings.get("group", 1)
        kernel = np.tile(ones, (channels, 1)).reshape(-1, 1, *size)
        operands = [centered, self._array(f"{stem}_copied", kernel)]
        return self._add("Conv", operands, f"{stem}_positions", **settings | {"group": channels})

    def _by_channel(self, layer: IntegerLayer, pairs: _SaturatingPairs, source: str, output: str) -> str:
        """Sum the pairs of each output channel, by a table (slots, channels) padded with the last pair."""
        table = self._array(f"{output}_table", pairs.table)
        gathered, summed = (1, 1) if layer.node.op_type == "Conv" else (-1, -2)
        slots = self._add("Gather", [source, table], f"{output}_slots", axis=gathered)
        axes = self._array(f"{output}_axis", np.array([summed], np.int64))
        return self._add("ReduceSum", [slots, axes], output, keepdims=0)

    def _channels(self, layer: IntegerLayer, name: str, values: NDArray[np.float32]) -> str:
        """Store one number per channel in a shape that broadcasts over a tensor of channels."""
        shape = (-1, *[1] * (layer.values.ndim - 2)) if layer.node.op_type == "Conv" else (-1,)
        return self._array(name, values.astype(np.float32).reshape(shape))

    def _array(self, name: str, value: NDArray[Any]) -> str:
        self.arrays[name] = value
        return name

    def _add(self, op: str, inputs: Iterable[str], output: str, **settings: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **settings))
        return output


@dataclass(frozen=True, slots=True)
class _SaturatingPairs:
    """The pairs of a layer that can overflow, and a last one of zeros that never does.

    ``positions`` int64 are the positions of the kernel, row by row, at which one of their weights stands. ``picked``
    int64 (pairs, 2) are their inputs, counted through the ``positions`` of each input channel. ``weights``
    float32 (pairs, 2) are made positive, so that ``weights * input - bounds`` is the loss if it is positive, and
    ``signs`` float32 (pairs,) is +1 or -1. ``bounds`` float32 (pairs,) are relative to the zero point, as the graph's
    integers are; the kernels' integers are relative to 0. ``table`` int64 (slots, channels) lists the pairs of each
    output channel.
    """

    positions: NDArray[np.int64]
    picked: NDArray[np.int64]
    weights: NDArray[np.float32]
    bounds: NDArray[np.float32]
    signs: NDArray[np.float32]
    table: NDArray[np.int64]

    @classmethod
    def of(cls, layer: IntegerLayer, reach: NDArray[np.float64] | None = None) -> _SaturatingPairs:
        channels, firsts = saturating_pairs(layer.values, layer.axis)
        rows = kernel_rows(layer.values, layer.axis).astype(np.float32)
        conv = layer.node.op_type == "Conv"
        width = layer.values.shape[1] if conv else rows.shape[1]  # input channels at one position of the kernel
        groups = attributes(layer.node).get("group", 1) if conv else 1
        first_input = channels // (len(rows) // groups) * width
        if reach is not None:
            largest = np.broadcast_to(reach, (width * groups,))
            sums = sum(np.abs(rows[channels, k]) * largest[first_input + k % width] for k in (firsts, firsts + 1))
            kept = np.flatnonzero(sums > np.where(rows[channels, firsts] > 0, 32767, 32768))
            channels, firsts, first_input = channels[kept], firsts[kept], first_input[kept]
        count, every = len(channels), np.arange(len(channels))
        at = np.zeros((count + 1, 2), np.int64)
        inputs, weights = np.zeros_like(at), np.zeros((count + 1, 2), np.float32)
        for side, k in enumerate((firsts, firsts + 1)):
            inputs[:count, side] = first_input + k % width
            at[:count, side] = k // width
            weights[:count, side] = np.abs(rows[channels, k])
        positions = np.unique(at[:count])
        signs = np.append(np.sign(rows[channels, firsts]), np.float32(1))
        offset = float(layer.input_zero) + (128 if layer.input_zero.dtype == np.int8 else 0)
        bounds = np.where(signs > 0, 32767.0, 32768.0) - offset * weights.sum(axis=1, dtype=np.float64)
        slot = every - np.searchsorted(channels, channels)
        table = np.full((int(slot.max(initial=0)) + 1, len(rows)), count, np.int64)
        table[slot, channels] = every
        picked = inputs * len(positions) + np.minimum(np.searchsorted(positions, at), len(positions) - 1)
        return cls(positions, picked, weights, bounds.astype(np.float32), signs.astype(np.float32), table)
