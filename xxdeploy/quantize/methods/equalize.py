"""Cross-layer equalization: scale the channels between two layers so that each uses the tensor's range.

Nagel et al. 2019, arXiv:1906.04721, section 4.1. For ``y = W2 f(W1 x + b1) + b2`` with a positively homogeneous ``f``
(``f(s x) = s f(x)`` for ``s > 0``: Relu, MaxPool, nothing)::

    y = W2 S^-1 f(S W1 x + S b1) + b2,    S = diag(s)

is the same function for every ``s``. Which ``s`` helps is in :mod:`xxdeploy.quantize.methods.channel_scales`.

A Clip to 0..6 is not homogeneous, and the paper replaces it by Relu. Here it stays, since the quantizer after it makes
it free: a channel that reaches the ceiling on calibration images keeps its scale, and any other is scaled at most until
it almost reaches the ceiling. On those images the function is the same up to float rounding; on an image that drives
such a channel far beyond its calibrated range, the Clip cuts at another value than before.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, attributes, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer, Tensors
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import Batches, map_images, single_images
from xxdeploy.quantize.methods.channel_scales import Between, Vector, choose_scales
from xxdeploy.quantize.methods.method import Draft, MethodContext
from xxdeploy.quantize.placement import check_float_graph
from xxdeploy.quantize.policy import Role, role, weight_axis
from xxdeploy.results import OnProgress, Progress
from xxdeploy.results.values import check_finite

with extra("export"):
    from onnx import NodeProto

log = logging.getLogger(__name__)

HOMOGENEOUS = frozenset({"Relu", "MaxPool"})
"""Operators that may stand between two layers: they commute with a positive factor per channel and keep the range.

An average does not keep it: with factors from the means, channels with rare peaks would widen the pool's input.
"""

MARGIN = 0.99
"""Share of a Clip's ceiling that scaling may give a channel: other images reach a little further."""

_Channels = tuple[Vector, Vector, Vector, int]
"""Of a tensor by channel (axis 1): low, high, the sum of squares, and the number of values."""


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Two layers: ``first`` writes ``wide`` (before any activation), ``second`` reads ``read``.

    ``ceiling`` is that of the lowest Clip between them, infinity without a Clip.
    """

    first: NodeProto
    second: NodeProto
    ceiling: float

    @property
    def wide(self) -> str:
        """The tensor that the first layer writes."""
        return str(self.first.output[0])

    @property
    def read(self) -> str:
        """The tensor that the second layer reads."""
        return str(self.second.input[0])


def equalize(draft: Draft, context: MethodContext) -> Draft:
    """Return ``draft`` with the channels between its layers scaled for the least noise in INT8.

    The outputs are the same up to float rounding on the images of ``context.batches``; ranges change, so the method
    runs before calibration. Layer pairs do not depend on each other (output channels have their own scales, and noise
    is measured in the units of the unscaled network), so there is nothing to iterate. Fifty images are enough to
    measure a channel's range. Raises ``UsageError`` (``no-calibration-images``, ``already-quantized``),
    ``ConversionError`` (``non-finite-weights``, ``non-finite-range``, ``calibration-run``, ``opset-too-old``).
    """
    graph = Graph(draft.model)
    check_float_graph(graph)
    pairs = find_layer_pairs(graph)
    if not pairs:
        return draft
    channels = _statistics(graph, pairs, context.batches, context.on_progress)
    factors: dict[str, dict[str, Vector]] = {}
    for pair in pairs:
        scales = choose_scales(_between(pair, channels), grouped_weights(graph, pair.second))
        if (scales == 1).all():
            continue
        factors.setdefault(pair.wide, {})["out"] = scales
        factors.setdefault(pair.second.output[0], {})["in"] = 1 / scales
        log.debug("%s: channels scaled by %.3g..%.3g", layer_name(pair.first), scales.min(), scales.max())
    return replace(draft, model=_scaled(graph, factors))


def find_layer_pairs(graph: Graph) -> tuple[LayerPair, ...]:
    """Return the pairs of layers, in graph order, with nothing but homogeneous operators and Clips between them."""
    pairs = []
    for node in graph.nodes:
        if not _is_layer(graph, node) or node.op_type == "MatMul":
            continue
        ceiling, reader = np.inf, graph.only_consumer(node.output[0])
        while reader is not None and (reader.op_type in HOMOGENEOUS or _ceiling(graph, reader) is not None):
            limit = _ceiling(graph, reader)
            ceiling = ceiling if limit is None else min(ceiling, limit)
            reader = graph.only_consumer(reader.output[0])
        if reader is None or not _is_layer(graph, reader):
            continue
        pairs.append(LayerPair(node, reader, float(ceiling)))
    return tuple(pairs)


def grouped_weights(graph: Graph, node: NodeProto) -> NDArray[np.float32]:
    """Return a layer's weights as (groups, outputs of a group, channels of a group, taps)."""
    weights = graph.constants[node.input[1]]
    if node.op_type != "Conv":
        weights = weights if weight_axis(node) == 0 else weights.T
        return weights.reshape(1, *weights.shape, 1)
    groups = int(attributes(node).get("group", 1))
    return weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)


def _is_layer(graph: Graph, node: NodeProto) -> bool:
    return role(graph, node) is Role.COMPUTE


def _ceiling(graph: Graph, node: NodeProto) -> float | None:
    """Return the upper bound of a Clip whose lower bound is zero; None for any other node."""
    if node.op_type != "Clip" or any(name and name not in graph.constants for name in node.input[1:]):
        return None
    floor, ceiling = ([float(graph.constants[name]) if name else None for name in node.input[1:]] + [None, None])[:2]
    if floor != 0:
        return None
    return np.inf if ceiling is None else ceiling


def _statistics(
    graph: Graph, pairs: tuple[LayerPair, ...], batches: Batches, on_progress: OnProgress | None
) -> dict[str, _Channels]:
    names = dict.fromkeys(name for pair in pairs for name in (pair.wide, pair.read))
    totals: dict[str, _Channels] = {}

    def look(tensors: Tensors) -> dict[str, _Channels]:
        return {name: _by_channel(name, tensors[name]) for name in names}

    images = single_images(batches)
    for seen, sums in enumerate(map_images(Observer(graph, names, threads=1), images, look), 1):
        for name, (low, high, square, count) in sums.items():
            old = totals.get(name, (low, high, 0, 0))
            totals[name] = np.minimum(low, old[0]), np.maximum(high, old[1]), square + old[2], count + old[3]
        if on_progress is not None:
            on_progress(Progress("equalize", seen))
    return totals


def _by_channel(name: str, values: NDArray[np.float32]) -> _Channels:
    rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    check_finite(name, float(low.min()), float(high.max()))
    return low, high, np.einsum("ij,ij->i", rows, rows).astype(np.float64), rows.shape[1]


def _between(pair: LayerPair, seen: Mapping[str, _Channels]) -> Between:
    """Return the measured values between the layers, and the largest factor of each channel."""
    low, high, square, count = seen[pair.read]
    top = np.maximum(seen[pair.wide][1], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(top < pair.ceiling, np.maximum(MARGIN * pair.ceiling / top, 1), 1)
    return Between(low, high, square / count, limit)


def _scaled(graph: Graph, factors: Mapping[str, Mapping[str, Vector]]) -> OnnxModel:
    """Return the model with the weights and biases of each layer, by its output, multiplied by ``factors``."""
    for node in graph.nodes:
        if not (own := factors.get(node.output[0])):
            continue
        weights = grouped_weights(graph, node).astype(np.float64)
        groups, outputs, members, _ = weights.shape
        if "in" in own:
            weights = weights * own["in"].reshape(groups, 1, members, 1)
        if "out" in own:
            weights = weights * own["out"].reshape(groups, outputs, 1, 1)
            if len(node.input) > 2 and node.input[2]:
                bias = graph.constants[node.input[2]]
                graph.arrays[f"{node.output[0]}_bias"] = (bias * own["out"].reshape(bias.shape)).astype(np.float32)
                node.input[2] = f"{node.output[0]}_bias"
        shape = graph.constants[node.input[1]].shape
        if node.op_type != "Conv" and weight_axis(node) == 1:
            weights = np.moveaxis(weights, 1, 2)
        graph.arrays[f"{node.output[0]}_weight"] = np.ascontiguousarray(weights.reshape(shape), np.float32)
        node.input[1] = f"{node.output[0]}_weight"
    return graph.to_model()
