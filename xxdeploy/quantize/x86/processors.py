"""Tell whether an INT8 graph computes the same on every kind of processor, and find the layers that do not.

- ``vnni``: x86 with AVX512-VNNI or AVX-VNNI. ``vpdpbusd`` adds four products into 32 bits: exact.
- ``avx2``: x86 without. Two products are added into 16 bits: :mod:`xxdeploy.quantize.x86.saturating_pairs`.
- ``arm``: S8S8 kernels (``smull``/``smlal``, ``sdot``, ``smmla``). At most two products of -128..127 and -127..127 meet
  in 16 bits, and 2 * 128 * 127 = 32512 fits: exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Arrays, GraphSession, feeds_of
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import Batches, single_images
from xxdeploy.quantize.x86.reach import guard, observe_reach
from xxdeploy.quantize.x86.saturation import (
    BEYOND,
    Tap,
    count_saturating_pairs,
    integer_layers,
    rewrite,
    risky_by_output,
)
from xxdeploy.results import OnProgress, ProcessorVerdict, Progress

with extra("export"):
    from onnx import ModelProto, NodeProto, ValueInfoProto, helper

_STEPS = 255


@dataclass(frozen=True, slots=True)
class Saturation:
    """The effect of 16-bit sums on one layer.

    ``pairs`` of its weights can overflow for some input. On the measured images ``share`` (0..1) of its output values
    were wrong; ``worst`` is the largest error of one of them, in integer steps of the output (1/255 of its range).
    """

    layer: str
    pairs: int
    share: float
    worst: float


def risky_layers(int8: OnnxModel) -> Mapping[str, int]:
    """Return how many pairs of weights can overflow, for each integer layer with kernels that add in 16 bits.

    Layers have their names of the float graph, in graph order. No image is needed: 0 means exact for every input.
    """
    layers = integer_layers(Graph(int8))
    return {layer.name: count_saturating_pairs(layer) for layer in layers if layer.adds_in_16_bits}


def observe_saturation(
    int8: OnnxModel, batches: Batches, *, on_progress: OnProgress | None = None
) -> Mapping[str, Saturation]:
    """Measure on images the effect of 16-bit sums on each layer with such kernels; layers in graph order.

    Each layer reads the outputs of layers that saturate already, as on the processor. Raises ``UsageError``
    (``no-calibration-images``), ``ConversionError`` (``calibration-run``: a batch does not fit the graph).
    """
    layers = [layer for layer in integer_layers(Graph(int8)) if layer.adds_in_16_bits]
    saturations = {layer.name: Saturation(layer.name, count_saturating_pairs(layer), 0.0, 0.0) for layer in layers}
    for limited in (True, False) if any(saturation.pairs for saturation in saturations.values()) else ():
        graph = Graph(int8)
        risky = risky_by_output(graph)
        reach = observe_reach(int8, risky, batches) if limited else None
        guarded = ([], {}) if reach is None else guard(risky, reach, BEYOND)
        model, taps = rewrite(graph, risky, tapped=True, reach=reach)
        measured = _measure(model, taps, guarded, batches, on_progress)
        if measured is None:  # an image goes beyond the reach: once more with all pairs
            continue
        for tap, (share, worst) in zip(taps, measured, strict=True):
            saturations[tap.layer.name] = Saturation(tap.layer.name, tap.pairs, share, worst)
        break
    return saturations


def saturating_layers(saturations: Mapping[str, Saturation]) -> tuple[str, ...]:
    """Return the layers with wrong values, the one with the largest error first."""
    wrong = (saturation for saturation in saturations.values() if saturation.share > 0)
    return tuple(saturation.layer for saturation in sorted(wrong, key=lambda one: (-one.worst, one.layer)))


def judge_processors(saturations: Mapping[str, Saturation]) -> tuple[ProcessorVerdict, ...]:
    """Return for each of the three kinds whether the model is exact there, from the measurements of its x86 variant.

    ``arm`` means the variant with int8 activations (``static-w8c-a8i``), which is exact by construction.
    """
    layers = saturating_layers(saturations)
    avx2 = ProcessorVerdict("avx2", exact=True)
    if layers:
        worst = saturations[layers[0]]
        avx2 = ProcessorVerdict("avx2", False, layers, worst.layer, worst.share, worst.worst)
    return ProcessorVerdict("vnni", exact=True), avx2, ProcessorVerdict("arm", exact=True)


def _measure(
    model: OnnxModel,
    taps: tuple[Tap, ...],
    guarded: tuple[list[NodeProto], Arrays],
    batches: Batches,
    on_progress: OnProgress | None,
) -> list[tuple[float, float]] | None:
    """Return (share of wrong values, largest error in integer steps) of each tap's layer.

    None if an image is beyond the nodes ``guarded``.
    """
    proto, arrays = _with_summaries(model, taps)
    proto.graph.node.extend(guarded[0])
    last = [BEYOND] if guarded[0] else []
    proto.graph.output.extend(ValueInfoProto(name=name) for name in last)
    session, inputs = GraphSession(proto, {**arrays, **guarded[1]}), list(proto.graph.input)
    outputs = [f"{tap.lost}_{what}" for tap in taps for what in ("share", "worst", "low", "high")]
    images, shares = 0, np.zeros(len(taps))
    worst, low, high = np.zeros(len(taps)), np.full(len(taps), math.inf), np.full(len(taps), -math.inf)
    # Every pair of weights has two inputs and a sum of its own: one image takes 100 MB, and is faster than a batch.
    for images, image in enumerate(single_images(batches), 1):
        values = np.array(session.run([*outputs, *last], feeds_of(inputs, image)), np.float64)
        if (values[len(outputs) :] > 0).any():
            return None
        rows = values[: len(outputs)].reshape(len(taps), 4)
        shares += rows[:, 0]
        worst, low, high = np.maximum(worst, rows[:, 1]), np.minimum(low, rows[:, 2]), np.maximum(high, rows[:, 3])
        if on_progress is not None:
            on_progress(Progress("observe saturation", images))
    spans = np.maximum(high, 0.0) - np.minimum(low, 0.0)
    steps = [span / _STEPS if tap.step is None else tap.step for tap, span in zip(taps, spans, strict=True)]
    return [
        (float(share / images), float(error / step) if error else 0.0)
        for share, error, step in zip(shares, worst, steps, strict=True)
    ]


def _with_summaries(model: OnnxModel, taps: tuple[Tap, ...]) -> tuple[ModelProto, Arrays]:
    """Return the graph with four numbers for each tap as its outputs, and its weights."""
    proto, arrays = model.split()
    del proto.graph.output[:]
    for tap in taps:
        stem = tap.lost
        proto.graph.node.extend(
            [
                helper.make_node("Abs", [tap.lost], [f"{stem}_size"]),
                helper.make_node("Sign", [f"{stem}_size"], [f"{stem}_off"]),
                helper.make_node("ReduceMean", [f"{stem}_off"], [f"{stem}_share"], keepdims=0),
                helper.make_node("ReduceMax", [f"{stem}_size"], [f"{stem}_worst"], keepdims=0),
                helper.make_node("ReduceMin", [tap.output], [f"{stem}_low"], keepdims=0),
                helper.make_node("ReduceMax", [tap.output], [f"{stem}_high"], keepdims=0),
            ]
        )
        names = (f"{stem}_{what}" for what in ("share", "worst", "low", "high"))
        proto.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return proto, arrays
