"""Which layer hurts: the signal-to-quantization-noise ratio of each layer, alone and on top of those before it.

With ``y`` what a layer gives in the float network and ``y'`` what its quantized copy gives, summed over images,
channels and positions::

    SQNR = 10 log10(sum y^2 / sum (y - y')^2)    in dB

Lin, Talathi and Annapureddy 2016, "Fixed Point Quantization of Deep Convolutional Networks", arXiv:1511.06393, section
3. Both stand side by side in one graph, and two sums a layer come out of it: one pass over the images, however deep the
network is, and nothing large to fetch. Integers are emulated, value by value as the Q/DQ graph says: the figures are
the same on every processor, and what a processor without VNNI adds by saturating 16-bit sums is not in them.
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
from xxdeploy.onnxmodel.run import GraphSession
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
    """Measure what ``scheme`` does to each integer layer of the float ``model``, the worst first.

    A layer ends behind the activation that is fused into it. Alone, its quantized copy reads the float network, so that
    only its own error is seen; ``accumulated_db`` also has all that comes before. A dozen images are enough: every
    position of each counts. The figures are rounded to 0.01 dB.

    Parameters
    ----------
    model, ranges, scheme
        As for :func:`xxdeploy.quantize.quantize`.
    batches
        Preprocessed batches (n, h, w, c) float32; all of them are used.
    integer
        The INT8 network to measure, where it is not ``quantize(model, ranges, scheme)``: made with corrected biases or
        tuned rounding from a model with the same tensors. With corrected biases, which make up for the layers before,
        a layer alone looks worse than it is.
    on_progress
        Called with the images done, as step ``sensitivity``.

    Raises
    ------
    UsageError
        ``no-calibration-images``, ``already-quantized``.
    ConversionError
        As :func:`xxdeploy.quantize.quantize`; ``calibration-run``; ``non-finite-range``: the network gives NaN or
        infinity on these images.
    """
    graph = Graph(model)
    networks = _SideBySide(graph, Graph(integer or quantize(model, ranges, scheme)))
    layers = plan_layout(graph, scheme).layers
    for node in graph.nodes:
        if node.output[0] in layers:
            networks.add_layer(node)
    sums = networks.run(batches, on_progress)
    found = []
    for node in graph.nodes:
        if (output := node.output[0]) in layers:
            signal = sums[output, _SIGNAL]
            noises = (sums.get((output, kind)) for kind in (_ALONE, _WEIGHTS, _INPUT, _OUTPUT, _ACCUMULATED))
            ratios = [None if noise is None else _rounded(decibels(signal, noise)) for noise in noises]
            found.append(LayerNoise(layer_name(node), node.op_type, *ratios))
    return tuple(sorted(found, key=lambda each: (each.sqnr_db is None, each.sqnr_db or 0.0)))


class _SideBySide:
    """The float network, the integer one, and copies of layers that read the float one; sums of squares come out."""

    def __init__(self, graph: Graph, integer: Graph) -> None:
        self._graph, self._integer = graph, integer
        self._nodes: list[NodeProto] = list(graph.nodes)
        self._arrays: dict[str, NDArray[Any]] = dict(graph.arrays)
        self._quantized: dict[str, str] = {}
        self._sums: dict[str, tuple[str, str]] = {}
        # Constants that both hold are stored once; all else of the integer network gets names of its own.
        self._shared = {"", *graph.inputs} | {
            name for name, value in integer.arrays.items() if name in graph.arrays and _same(value, graph.arrays[name])
        }
        self._arrays |= {self._own(name): value for name, value in integer.arrays.items()}
        for node in integer.nodes:
            self._copy(node, [self._own(name) for name in node.input], [self._own(name) for name in node.output])

    def add_layer(self, node: NodeProto) -> None:
        """Put the copies of a layer of the float network beside it."""
        graph, output = self._graph, node.output[0]
        activations, end = _activations_behind(graph, node)
        # The output of a graph keeps its name at the end of its pair, see `qdq`.
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
        """Return the sums over all images by (output of the layer, kind); the kind ``signal`` is that in float."""
        proto = self._graph.proto()
        del proto.graph.node[:], proto.graph.output[:], proto.graph.value_info[:]
        proto.graph.node.extend(self._nodes)
        proto.graph.output.extend(ValueInfoProto(name=name) for name in self._sums)
        # Optimizing so many nodes takes longer than it saves (NASNetMobile, 16 images: 29 s against 7).
        session = GraphSession(proto, self._arrays, optimize=False)
        totals = np.zeros(len(self._sums))
        # Five networks side by side keep any processor busy with one image, and take five times the memory of one.
        for seen, image in enumerate(single_images(batches), 1):
            totals += session.run(list(self._sums), {self._graph.inputs[0]: image})
            if on_progress is not None:
                on_progress(Progress("sensitivity", seen))
        if not np.isfinite(totals).all():
            first = list(self._sums.values())[int(np.flatnonzero(~np.isfinite(totals))[0])]
            raise ConversionError(
                f"the network gives NaN or infinity at {first[0]!r} on these images",
                hint="look for NaN or infinity in the weights (`xxdeploy inspect`) and in the images",
                code="non-finite-range",
            )
        return dict(zip(self._sums.values(), map(float, totals), strict=True))

    def _own(self, name: str) -> str:
        """Return what ``name`` of the integer network is called here."""
        return name if name in self._shared else f"int8:{name}"

    def _quantize(self, scale_of: str, name: str) -> str:
        """Quantize ``name`` as the integer network does ``scale_of``; where that stays float, so does this."""
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
        """Append ``node`` with other operands and results; return its first result."""
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


def _activations_behind(graph: Graph, node: NodeProto) -> tuple[list[NodeProto], str]:
    """Return the activations that belong to a layer, and the tensor that the last one writes; see ``layout``."""
    nodes, end = list[NodeProto](), str(node.output[0])
    while (reader := graph.only_consumer(end)) is not None and role(graph, reader) is Role.ACTIVATION:
        nodes.append(reader)
        end = str(reader.output[0])
    return nodes, end


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return left is right or (left.dtype == right.dtype and np.array_equal(left, right))
