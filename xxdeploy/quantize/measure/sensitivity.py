"""The signal-to-quantization-noise ratio of each layer, alone and with the errors of all layers before it.

With ``y`` a layer's output in the float network and ``y'`` that of its quantized copy, summed over images, channels and
positions::

    SQNR = 10 log10(sum y^2 / sum (y - y')^2)    in dB

Lin, Talathi and Annapureddy 2016, "Fixed Point Quantization of Deep Convolutional Networks", arXiv:1511.06393, section
3. One graph holds both networks and returns two sums per layer: it takes one pass over the images for any number of
layers, and nothing large is fetched. Integers are emulated as the Q/DQ graph states, so the figures are the same on
every processor. They do not contain the errors of 16-bit sums that saturate on processors without VNNI.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import GraphSession, feeds_of
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import Batches, single_images
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.policy import Role, role
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import LayerNoise, OnProgress, Progress, Ranges, decibels

with extra("export"):
    from onnx import NodeProto, ValueInfoProto, helper

log = logging.getLogger(__name__)

_SIGNAL, _ALONE, _WEIGHTS, _INPUT, _OUTPUT, _ACCUMULATED = (
    "signal", "alone", "weights", "input", "output", "accumulated"
)  # fmt: skip


def layer_noise(
    model: OnnxModel,
    ranges: Ranges,
    scheme: Scheme,
    batches: Batches,
    *,
    integer: OnnxModel | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[LayerNoise, ...]:
    """Measure the noise of each integer layer of the float ``model`` under ``scheme``, the worst layer first.

    A layer ends after the activation that is fused into it. Its quantized copy reads the float network, so that
    ``sqnr_db`` shows its own error; ``accumulated_db`` includes the errors of all layers before it. A dozen images are
    enough: every position of each counts. The figures are rounded to 0.01 dB.

    ``integer`` is the INT8 network to measure, by default ``quantize(model, ranges, scheme)``; one with corrected
    biases or tuned rounding must have the same tensors. Corrected biases compensate for earlier layers, so a layer
    alone then looks worse than it is.

    Raises ``UsageError`` (``no-calibration-images``, ``already-quantized``), ``ConversionError`` (as
    :func:`xxdeploy.quantize.quantize`; ``calibration-run``; ``non-finite-range``: NaN or infinity in the network on
    these images).
    """
    graph = Graph(model)
    networks = _SideBySide(graph, Graph(integer or quantize(model, ranges, scheme)))
    layers = plan_layout(graph, scheme).layers
    for node in graph.nodes:
        if node.output[0] in layers:
            networks.add_layer(node)
    sums = networks.run(batches, on_progress)
    noises_by_layer = []
    for node in graph.nodes:
        if (output := node.output[0]) in layers:
            signal = sums[output, _SIGNAL]
            noises = (sums.get((output, kind)) for kind in (_ALONE, _WEIGHTS, _INPUT, _OUTPUT, _ACCUMULATED))
            ratios = [None if noise is None else _rounded(decibels(signal, noise)) for noise in noises]
            noises_by_layer.append(LayerNoise(layer_name(node), node.op_type, *ratios))
    return tuple(sorted(noises_by_layer, key=lambda noise: (noise.sqnr_db is None, noise.sqnr_db or 0.0)))


class _SideBySide:
    """A graph of the float network, the integer one, and copies of layers that read the float one, with its sums."""

    def __init__(self, graph: Graph, integer: Graph) -> None:
        self._graph, self._integer = graph, integer
        self._nodes: list[NodeProto] = list(graph.nodes)
        self._arrays: dict[str, NDArray[Any]] = dict(graph.arrays)
        self._quantized: dict[str, str] = {}
        self._sums: dict[str, tuple[str, str]] = {}
        # Constants of both networks are stored once; all other tensors of the integer network get names of their own.
        self._shared = {"", *graph.inputs} | {
            name for name, value in integer.arrays.items() if name in graph.arrays and _same(value, graph.arrays[name])
        }
        self._arrays |= {self._own(name): value for name, value in integer.arrays.items()}
        for node in integer.nodes:
            self._copy(node, [self._own(name) for name in node.input], [self._own(name) for name in node.output])

    def add_layer(self, node: NodeProto) -> None:
        """Add the quantized copies of a layer of the float network."""
        graph, output = self._graph, node.output[0]
        activations, end = _fused_activations(graph, node)
        # A graph output keeps its name after its Q/DQ pair, see `qdq`.
        written = f"{output}_float" if f"{output}_float" in self._integer.producers() else output
        quantized = self._integer.producers()[written]
        moving = {index for index, name in enumerate(node.input) if name and name not in graph.constants}
        rounded = [self._quantize(name, name) if index in moving else name for index, name in enumerate(node.input)]
        parameters = [self._own(name) for name in quantized.input]

        def copy(kind: str, layer: NodeProto, inputs: Sequence[str]) -> str:
            at = self._copy(layer, inputs, [f"{kind}:{output}"])
            for index, activation in enumerate(activations):
                at = self._copy(activation, [at, *activation.input[1:]], [f"{kind}:{output}:{index}"])
            return at

        def operands(changed: Sequence[str]) -> list[str]:
            """Return the integer layer's operands, with the activations as in ``changed``."""
            return [changed[index] if index in moving else name for index, name in enumerate(parameters)]

        self._measure(output, _SIGNAL, end, None)
        alone = copy(_ALONE, quantized, operands(rounded))
        self._measure(output, _ALONE, end, self._quantize(end, alone))
        if role(graph, node) is Role.COMPUTE:
            self._measure(output, _WEIGHTS, end, copy(_WEIGHTS, quantized, operands(node.input)))
        self._measure(output, _INPUT, end, copy(_INPUT, node, rounded))
        if (there := self._quantize(end, end)) != end:
            self._measure(output, _OUTPUT, end, there)
        there = f"{end}_dequantized" if f"{end}_dequantized" in self._integer.producers() else end
        self._measure(output, _ACCUMULATED, end, self._own(there))

    def run(self, batches: Batches, on_progress: OnProgress | None) -> dict[tuple[str, str], float]:
        """Return the sums over all images by (output of the layer, kind); the kind ``signal`` is the float one."""
        proto = self._graph.proto()
        del proto.graph.node[:], proto.graph.output[:], proto.graph.value_info[:]
        proto.graph.node.extend(self._nodes)
        proto.graph.output.extend(ValueInfoProto(name=name) for name in self._sums)
        # Optimizing so many nodes takes longer than it saves (NASNetMobile, 16 images: 29 s against 7).
        session = GraphSession(proto, self._arrays, optimize=False)
        totals = np.zeros(len(self._sums))
        # One image is enough to use all cores: the graph has five networks, and takes five times the memory of one.
        for seen, image in enumerate(single_images(batches), 1):
            totals += session.run(list(self._sums), feeds_of(self._graph.header.graph.input, image))
            if on_progress is not None:
                on_progress(Progress("sensitivity", seen))
        if not np.isfinite(totals).all():
            first = list(self._sums.values())[int(np.flatnonzero(~np.isfinite(totals))[0])]
            raise ConversionError(
                f"the network computes NaN or infinity at {first[0]!r} on these images",
                hint="look for NaN or infinity in the weights (`xxdeploy inspect`) and in the images",
                code="non-finite-range",
            )
        return dict(zip(self._sums.values(), map(float, totals), strict=True))

    def _own(self, name: str) -> str:
        """Return the name here of the integer network's tensor ``name``."""
        return name if name in self._shared else f"int8:{name}"

    def _quantize(self, scale_of: str, name: str) -> str:
        """Quantize ``name`` as the integer network does ``scale_of``; leave it in float if the network does."""
        quantizer = self._integer.producers().get(f"{scale_of}_quantized")
        while quantizer is not None and quantizer.op_type != "QuantizeLinear":
            quantizer = self._integer.producers().get(quantizer.input[0])  # a Pad that moves integers keeps their scale
        if quantizer is None:
            return name
        if name not in self._quantized:
            parameters = [self._own(operand) for operand in quantizer.input[1:]]
            self._quantized[name] = f"{name}:dequantized"
            for op, source, made in (
                ("QuantizeLinear", name, f"{name}:quantized"),
                ("DequantizeLinear", f"{name}:quantized", self._quantized[name]),
            ):
                self._nodes.append(helper.make_node(op, [source, *parameters], [made], name=made))
        return self._quantized[name]

    def _copy(self, node: NodeProto, inputs: Sequence[str], outputs: Sequence[str]) -> str:
        """Append ``node`` with other inputs and outputs; return its first output."""
        new = NodeProto()
        new.CopyFrom(node)
        new.input[:], new.output[:] = inputs, outputs
        new.name = outputs[0]
        self._nodes.append(new)
        return outputs[0]

    def _measure(self, output: str, kind: str, end: str, other: str | None) -> None:
        """Sum up the squares of ``end``, or of its difference from ``other``."""
        difference, total = f"{kind}:{output}:difference", f"{kind}:{output}:sum"
        if other is not None:
            self._nodes.append(helper.make_node("Sub", [end, other], [difference], name=difference))
        source = end if other is None else difference
        self._nodes.append(helper.make_node("ReduceSumSquare", [source], [total], name=total, keepdims=0))
        self._sums[total] = output, kind


def _fused_activations(graph: Graph, node: NodeProto) -> tuple[list[NodeProto], str]:
    """Return the activations that belong to a layer, and the tensor that the last one writes; see ``placement``."""
    nodes, end = list[NodeProto](), str(node.output[0])
    while (reader := graph.only_consumer(end)) is not None and role(graph, reader) is Role.ACTIVATION:
        nodes.append(reader)
        end = str(reader.output[0])
    return nodes, end


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return left is right or (left.dtype == right.dtype and np.array_equal(left, right))
