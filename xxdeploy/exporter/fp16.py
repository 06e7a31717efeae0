"""The FP16 half of an export: look at the ranges of all tensors, then cast what fits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.batch_size import CALIBRATION_BATCH, batch_that_fits
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import Evidence, Fp16Record, OnProgress, Ranges

with extra("export"):
    from xxdeploy.lowering.cast_fp16 import Fp16, cast_fp16
    from xxdeploy.quantize.calibration.extremes import observe_extremes

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Half:
    """The cast ``model``, the ranges that it was checked with (None: only its weights), evidence, and sentences."""

    model: OnnxModel
    ranges: Ranges | None
    evidence: Evidence
    sentences: tuple[str, ...]


def make_fp16(
    inputs: Inputs, fp32: OnnxModel, made_up: NDArray[np.float32], report: OnProgress, *, trained: bool = True
) -> Half:
    """Cast ``fp32`` to float16 where its values fit, by the calibration images.

    Without any, the ``made_up`` pictures (n, h, w, c) have to do, and it says so: they show a network whose values
    leave float16 anyway, but not one that does so on a few photographs. Random weights that are not ``trained`` let
    values fade to nothing from layer to layer, as those of no real network do: only weights are checked then.

    Raises
    ------
    ConversionError
        As ``observe_extremes`` and ``cast_fp16``.
    """
    images = inputs.calibration
    if not trained:
        cast = cast_fp16(fp32)
        words = ("fp16: random weights, so no ranges were checked", *_kept(cast))
        return Half(cast.model, None, _evidence(cast), words)
    if images is None:
        ranges = observe_extremes(fp32, lambda: iter([made_up]), on_progress=report)
        seen = "made-up pictures only: give --calibration to check it on yours"
    else:
        batch = batch_that_fits(CALIBRATION_BATCH, inputs.preprocess.height, inputs.preprocess.width)
        ranges = observe_extremes(
            fp32,
            lambda: images.batches(inputs.preprocess, batch),
            data_digest=inputs.data_digest(images),
            total=len(images),
            on_progress=report,
        )
        seen = f"{len(images)} calibration images"
    cast = cast_fp16(fp32, ranges)
    largest = max(max(abs(low), abs(high)) for low, high in ranges.ranges.values())
    said = [f"fp16: values up to {largest:.3g} (float16 holds 65504), seen on {seen}", *_kept(cast)]
    return Half(cast.model, ranges, _evidence(cast, float(f"{largest:.3g}")), tuple(said))


def _evidence(cast: Fp16, largest: float | None = None) -> Evidence:
    return Evidence(fp16=Fp16Record({kept.layer: kept.reason for kept in cast.kept}, largest))


def _kept(cast: Fp16) -> list[str]:
    """Say which layers stay in float32, those with one reason together."""
    if not cast.kept:
        return ["fp16: every layer fits; input, output and Softmax stay float32"]
    kinds = Counter(each.reason.partition(" ")[0] for each in cast.kept)
    some = [f"{each.layer} ({each.reason})" for each in cast.kept[:_NAMED]]
    more = len(cast.kept) - len(some)
    what = " and ".join(f"{count} for their {kind}" for kind, count in sorted(kinds.items()))
    return [f"fp16: layers that stay float32, {what}: {', '.join(some)}{f' and {more} more' if more else ''}"]
