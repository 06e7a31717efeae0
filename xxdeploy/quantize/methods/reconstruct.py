"""Tune biases, and optionally the rounding of weights, layer by layer to match the float network.

Each layer is measured downstream of layers that are final already, so that it also corrects their errors. The cost is
one pass of the float network over the images and one of the quantized one, for any number of layers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.quantize.methods.bias_correction import biased_layers, give_biases, mean_shift
from xxdeploy.quantize.methods.float_means import FloatMeans, Means, channel_means
from xxdeploy.quantize.methods.method import Draft, MethodContext
from xxdeploy.quantize.methods.moments import (
    LARGEST,
    PER_TAP,
    Patches,
    covariance,
    has_patches,
    look_at_patches,
    taps_of,
)
from xxdeploy.quantize.methods.rounding import round_weights
from xxdeploy.quantize.methods.staged import StagedRun
from xxdeploy.quantize.policy import weight_axis
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.x86.saturating_pairs import adds_in_16_bits, fit_saturating_pairs
from xxdeploy.results import Progress

with extra("export"):
    from onnx import NodeProto

log = logging.getLogger(__name__)

_PRODUCTS = 6
"""Matrix products of a layer's errors with its moments, and as much time again between them."""


def reconstruct(draft: Draft, context: MethodContext) -> Draft:
    """Return ``draft`` with the bias of every integer layer corrected, and with weights rounded if the recipe asks.

    The correction is that of ``context.recipe``: an analytic one runs the float network only.
    ``rounding = "adaptive"`` there also chooses how the weights of each layer are rounded. About a
    hundred images in ``context.batches`` are enough. Layers with more than 4,608 inputs to one output are rounded to
    the nearest, as the matrix of their moments would be too large, and so are 1-D and 3-D convolutions. The layout that
    ``context.write`` makes is tuned. Raises ``UsageError`` (``no-calibration-images``), ``ConversionError`` (as
    :func:`xxdeploy.quantize.quantize` and :func:`xxdeploy.quantize.calibration.calibrate`).
    """
    scheme, rounding = context.scheme, context.recipe.rounding == "adaptive"
    float_means = context.float_means or FloatMeans(draft.model, context.batches)
    draft = replace(draft, model=give_biases(draft.model, scheme))
    if context.recipe.bias_correction == "analytic":
        return _without_rounding_shift(draft, context, float_means)
    graph = Graph(draft.model)
    layers = biased_layers(graph, scheme)
    expected = float_means([node.output[0] for node in layers])
    images = len(next(iter(expected.values()))) if expected else 0
    integer = Graph(draft.quantized(scheme, context.write))
    tuned = _Tuned(integer, dict(integer.constants), scheme)
    staged = StagedRun(integer, [_output(integer, node) for node in layers], context.batches())
    biases: dict[str, NDArray[np.float32]] = {}
    rounded: dict[str, NDArray[np.int8]] = {}
    for stage, node in enumerate(layers):
        layer = _Layer(node, graph.constants[node.input[1]], integer.producers()[_output(integer, node)])
        if has_patches(node, layer.weights):
            patches = _look(staged, stage, tuned.constants, layer, images if rounding else 0)
            if rounding and len(patches[0].sample):
                rounded[node.output[0]] = tuned.round(layer, covariance(patches))
            means = tuned.output_means(layer, np.concatenate([batch.means for batch in patches]))
        else:
            looked = staged.advance(stage, tuned.constants, lambda _, values: channel_means(values), [layer.output])
            means = np.concatenate(looked)
        shift = mean_shift(expected[node.output[0]] - means)
        bias = (graph.constants[node.input[2]] + shift).astype(np.float32)
        biases[node.input[2]] = bias
        tuned.set_bias(layer, bias)
        log.debug("bias of %s: mean shift %.4g", node.output[0], float(np.abs(shift).mean()))
        if context.on_progress is not None:
            step = "round weights, correct biases" if rounding else "correct biases"
            context.on_progress(Progress(step, stage + 1, len(layers)))
    graph.arrays |= biases
    return replace(draft, model=graph.to_model(), rounding={**draft.rounding, **rounded})


def _without_rounding_shift(draft: Draft, context: MethodContext, float_means: FloatMeans) -> Draft:
    """Return ``draft``, which has biases, without the shift that the rounding of its weights causes.

    Layers without patches, such as 1-D and 3-D convolutions, keep their bias.
    """
    graph, integer = Graph(draft.model), Graph(draft.quantized(context.scheme, context.write))
    tuned = _Tuned(integer, dict(integer.constants), context.scheme)
    layers = biased_layers(graph, context.scheme)
    inputs = float_means.of_inputs([node.output[0] for node in layers])
    for node in layers:
        mean = inputs.get(node.output[0])
        if mean is None:
            continue
        layer = _Layer(node, graph.constants[node.input[1]], integer.producers()[_output(integer, node)])
        shift = np.einsum("got,gt->go", tuned.rounding_errors(layer), mean).reshape(-1)
        graph.arrays[node.input[2]] = (graph.constants[node.input[2]] - shift).astype(np.float32)
    return replace(draft, model=graph.to_model())


def rounding_products(model: OnnxModel, scheme: Scheme) -> float:
    """Return about how many multiplications the rounding of the weights of ``model`` takes, besides running it."""
    graph = Graph(model)
    total = 0.0
    for node in biased_layers(graph, scheme):
        groups, outputs, taps = taps_of(node, graph.constants[node.input[1]])
        if taps <= LARGEST:
            total += groups * taps**2 * (PER_TAP * taps / 2 + taps / 3 + _PRODUCTS * outputs)
    return total


def products_per_second() -> float:
    """Return how many multiplications of a matrix product this machine does in a second now."""
    matrix = np.ones((512, 512), np.float32)
    began = time.perf_counter()
    for _ in range(4):
        matrix @ matrix
    return 4 * 512**3 / (time.perf_counter() - began)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A layer of the float graph with its ``weights``, and the node ``written`` for it in the integer graph."""

    node: NodeProto
    weights: NDArray[np.float32]
    written: NodeProto

    @property
    def output(self) -> str:
        """The output in the integer graph, in float."""
        return str(self.written.output[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Tuned:
    """The integer graph, and its ``constants`` as tuned so far."""

    integer: Graph
    constants: dict[str, NDArray[Any]]
    scheme: Scheme

    def round(self, layer: _Layer, moments: NDArray[np.float32]) -> NDArray[np.int8]:
        """Choose the integers of a layer's weights, and return them."""
        node, weights = layer.node, layer.weights
        axis, scale = weight_axis(node), self._scale(layer)
        steps = weights / scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        values = _to_layout(
            round_weights(_to_groups(node, steps), moments, self.scheme.weight_max), axis, weights.shape
        )
        if self.scheme.is_narrow(layer_name(node), node.output[0]) and adds_in_16_bits(node, weights.shape):
            values = fit_saturating_pairs(values, axis, steps)
        self.constants[self._dequantizer(layer).input[0]] = values
        return values

    def rounding_errors(self, layer: _Layer) -> NDArray[np.float64]:
        """Return the weights of a layer as its integers have them, less those in float, (groups, outputs, taps)."""
        values, weights = (
            _to_groups(layer.node, array).astype(np.float64)
            for array in (self.constants[self._dequantizer(layer).input[0]], layer.weights)
        )
        scale = np.broadcast_to(self._scale(layer), values.shape[0] * values.shape[1])
        return values * scale.reshape(*values.shape[:2], 1) - weights

    def output_means(self, layer: _Layer, inputs: NDArray[np.float32]) -> Means:
        """Return the mean of each output channel, image by image, from those of its patches (n, groups, taps).

        A layer is linear: the mean of its outputs is its output for the mean patch.
        """
        values = _to_groups(layer.node, self.constants[self._dequantizer(layer).input[0]]).astype(np.float64)
        products = np.matmul(inputs.transpose(1, 0, 2).astype(np.float64), values.transpose(0, 2, 1))
        means: Means = products.transpose(1, 0, 2).reshape(len(inputs), -1) * self._scale(layer)
        return means + self._bias(layer)

    def set_bias(self, layer: _Layer, bias: NDArray[np.float32]) -> None:
        """Write the bias, in integers where the graph has integers."""
        name = layer.written.input[2]
        dequantizer = self.integer.producers().get(name)
        if dequantizer is None:  # TensorRT's bias stays float
            self.constants[name] = bias
        else:
            steps = np.rint(bias / self.constants[dequantizer.input[1]].astype(np.float64))
            self.constants[dequantizer.input[0]] = np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)

    def _bias(self, layer: _Layer) -> NDArray[np.float64]:
        name = layer.written.input[2]
        dequantizer = self.integer.producers().get(name)
        if dequantizer is None:
            return self.constants[name].astype(np.float64)
        return self.constants[dequantizer.input[0]] * self.constants[dequantizer.input[1]].astype(np.float64)

    def _dequantizer(self, layer: _Layer) -> NodeProto:
        return self.integer.producers()[layer.written.input[1]]

    def _scale(self, layer: _Layer) -> NDArray[np.float64]:
        return np.atleast_1d(self.constants[self._dequantizer(layer).input[1]]).astype(np.float64)


def _look(
    staged: StagedRun, stage: int, constants: Mapping[str, NDArray[Any]], layer: _Layer, images: int
) -> list[Patches]:
    """Advance one stage and return the patches that the layer reads, chunk by chunk; samples of them for ``images``."""

    def look(chunk: int, values: NDArray[np.float32]) -> Patches:
        return look_at_patches(layer.node, layer.weights, values, images=images, seed=(stage, chunk))

    return staged.advance(stage, constants, look, [layer.written.input[0]])


def _to_groups(node: NodeProto, weights: NDArray[Any]) -> NDArray[np.float32]:
    """Return weights as (groups, outputs of a group, taps)."""
    rows = weights if weight_axis(node) == 0 else weights.T
    return np.ascontiguousarray(rows, np.float32).reshape(taps_of(node, weights))


def _to_layout(values: NDArray[np.int8], axis: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Undo :func:`_to_groups`."""
    if axis == 0:
        return np.ascontiguousarray(values.reshape(shape))
    return np.ascontiguousarray(values.reshape(shape[::-1]).T)


def _output(integer: Graph, node: NodeProto) -> str:
    """Return the name of a float layer's output in the integer graph."""
    name: str = node.output[0]
    return f"{name}_float" if integer.producers()[name].op_type == "DequantizeLinear" else name
