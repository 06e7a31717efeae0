"""Tune biases, and optionally the rounding of weights, layer by layer to match the float network.

Each layer is measured downstream of layers that are final already, so that it also corrects their errors. The cost is
one pass of the float network over the images and about two of the quantized one, for any number of layers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, layer_name
from xxdeploy.onnxmodel.run import Observer, Tensors
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import Batches, map_images, single_images
from xxdeploy.quantize.methods.bias_correction import biased_layers, give_biases, mean_shift
from xxdeploy.quantize.methods.method import Draft, MethodContext
from xxdeploy.quantize.methods.moments import Moments, has_moments, measure_moments, taps_of
from xxdeploy.quantize.methods.rounding import round_weights
from xxdeploy.quantize.methods.staged import StagedRun
from xxdeploy.quantize.policy import weight_axis
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.x86.saturating_pairs import adds_in_16_bits, fit_saturating_pairs
from xxdeploy.results import Progress

with extra("export"):
    from onnx import NodeProto

log = logging.getLogger(__name__)

Means = NDArray[np.float64]


def reconstruct(draft: Draft, context: MethodContext) -> Draft:
    """Return ``draft`` with the bias of every integer layer corrected, and with weights rounded if the recipe asks.

    ``rounding = "adaptive"`` in ``context.recipe`` also chooses how the weights of each layer are rounded. About a
    hundred images in ``context.batches`` are enough. Layers with more than 4,608 inputs to one output are rounded to
    the nearest, as the matrix of their moments would be too large, and so are 1-D and 3-D convolutions. The layout that
    ``context.write`` makes is tuned. Raises ``UsageError`` (``no-calibration-images``), ``ConversionError`` (as
    :func:`xxdeploy.quantize.quantize` and :func:`xxdeploy.quantize.calibration.calibrate`).
    """
    scheme, rounding = context.scheme, context.recipe.rounding == "adaptive"
    draft = replace(draft, model=give_biases(draft.model, scheme))
    graph = Graph(draft.model)
    layers = biased_layers(graph, scheme)
    expected = _float_means(graph, [node.output[0] for node in layers], context.batches)
    integer = Graph(draft.quantized(scheme, context.write))
    constants = dict(integer.constants)
    outputs = [_output(integer, node) for node in layers]
    staged = StagedRun(integer, outputs, context.batches())
    biases: dict[str, NDArray[np.float32]] = {}
    rounded: dict[str, NDArray[np.int8]] = {}
    for stage, node in enumerate(layers):
        written = integer.producers()[outputs[stage]]
        weights = graph.constants[node.input[1]]
        if rounding and has_moments(weights, taps_of(node, weights)[2]):
            means, moments = _inspect(staged, stage, constants, node, weights, written.input[0])
            values, moved = _round(node, weights, moments, constants, integer.producers()[written.input[1]], scheme)
            rounded[node.output[0]] = values
            means = means + moved
        else:
            means = np.concatenate(staged.advance(stage, constants, _channel_means))
        shift = mean_shift(expected[node.output[0]] - means)
        bias = (graph.constants[node.input[2]] + shift).astype(np.float32)
        biases[node.input[2]] = bias
        dequantizer = integer.producers().get(written.input[2])
        if dequantizer is None:  # TensorRT's bias stays float
            constants[written.input[2]] = bias
        else:
            steps = np.rint(bias / constants[dequantizer.input[1]].astype(np.float64))
            constants[dequantizer.input[0]] = np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)
        log.debug("bias of %s: mean shift %.4g", node.output[0], float(np.abs(shift).mean()))
        if context.on_progress is not None:
            step = "round weights, correct biases" if rounding else "correct biases"
            context.on_progress(Progress(step, stage + 1, len(layers)))
    graph.arrays |= biases
    return replace(draft, model=graph.to_model(), rounding={**draft.rounding, **rounded})


def _inspect(
    staged: StagedRun,
    stage: int,
    constants: Mapping[str, NDArray[Any]],
    node: NodeProto,
    weights: NDArray[np.float32],
    reads: str,
) -> tuple[Means, Moments]:
    """Advance one stage; return the layer's output means of each image and the moments of its input."""
    total: list[Moments] = []  # the sum so far: a matrix for each chunk would be 1 GB in ResNet50's widest layers

    def look(output: NDArray[np.float32], values: NDArray[np.float32]) -> Means:
        moments = measure_moments(node, weights, values, seed=(stage, len(total[0].means) if total else 0))
        total[:] = [total[0] + moments if total else moments]
        return _channel_means(output)

    means = staged.advance(stage, constants, look, [reads])
    return np.concatenate(means), total[0]


def _round(
    node: NodeProto,
    weights: NDArray[np.float32],
    moments: Moments,
    constants: dict[str, NDArray[Any]],
    dequantizer: NodeProto,
    scheme: Scheme,
) -> tuple[NDArray[np.int8], Means]:
    """Put new integers into ``constants``; return them and the change of the output means of each image."""
    axis, nearest, scale = weight_axis(node), constants[dequantizer.input[0]], constants[dequantizer.input[1]]
    steps = weights / scale.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    rounded = round_weights(_to_groups(node, steps), moments.covariance, scheme.weight_max)
    values = _to_layout(rounded, axis, weights.shape)
    if scheme.is_narrow(layer_name(node), node.output[0]) and adds_in_16_bits(node, weights.shape):
        values = fit_saturating_pairs(values, axis, steps)
    constants[dequantizer.input[0]] = values
    change = _to_groups(node, values.astype(np.float32) - nearest)
    moved = np.einsum("ngt,got->ngo", moments.means, change, optimize=True)
    return values, moved.reshape(len(moved), -1) * scale.astype(np.float64)


def _to_groups(node: NodeProto, weights: NDArray[Any]) -> NDArray[np.float32]:
    """Return weights as (groups, outputs of a group, taps)."""
    rows = weights if weight_axis(node) == 0 else weights.T
    return np.ascontiguousarray(rows, np.float32).reshape(taps_of(node, weights))


def _to_layout(values: NDArray[np.int8], axis: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Undo :func:`_to_groups`."""
    if axis == 0:
        return np.ascontiguousarray(values.reshape(shape))
    return np.ascontiguousarray(values.reshape(shape[::-1]).T)


def _float_means(graph: Graph, outputs: list[str], batches: Batches) -> dict[str, Means]:
    """Return the mean of each channel (axis 1) of each tensor of the float graph, image by image (images, channels)."""

    def look(tensors: Tensors) -> list[Means]:
        return [_channel_means(tensors[name]) for name in outputs]

    by_image = list(map_images(Observer(graph, outputs, threads=1), single_images(batches), look))
    return {name: np.concatenate(means) for name, means in zip(outputs, zip(*by_image, strict=True), strict=True)}


def _channel_means(values: NDArray[np.float32]) -> Means:
    """Return the mean of each channel of ``values`` (n, channels, ...), image by image (n, channels)."""
    means: Means = values.reshape(*values.shape[:2], -1).mean(axis=2, dtype=np.float64)
    return means


def _output(integer: Graph, node: NodeProto) -> str:
    """Return the name of a float layer's output in the integer graph."""
    name: str = node.output[0]
    return f"{name}_float" if integer.producers()[name].op_type == "DequantizeLinear" else name
