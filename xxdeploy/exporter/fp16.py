"""FP16: measure the ranges of all tensors, then cast the layers that fit."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.images import CALIBRATION_BATCH, batch_that_fits
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.result import Lowered
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import Evidence, Fp16Record, ModelFile, OnProgress, Ranges
from xxdeploy.runtime.inputs import area_of

with extra("export"):
    from xxdeploy.lowering.cast_fp16 import Fp16, cast_fp16
    from xxdeploy.quantize.calibration.calibrate import observe_extremes

_NAMED = 5


def make_fp16(
    inputs: Inputs, fp32: OnnxModel, synthetic: NDArray[np.float32], report: OnProgress, *, trained: bool = True
) -> Lowered:
    """Cast ``fp32`` to float16 where its values on the calibration images fit.

    Without calibration images the ``synthetic`` images (n, h, w, c) are measured, which a sentence reports: they reveal
    a network that always overflows float16, but not one that does so on a few photographs. Random weights that are not
    ``trained`` let values vanish from layer to layer, as no real network does, so only weights are checked then.

    Raises
    ------
    ConversionError
        As ``observe_extremes`` and ``cast_fp16``.
    """
    images = inputs.calibration
    if not trained:
        cast = cast_fp16(fp32)
        words = ("fp16: random weights, so no ranges were checked", *_kept(cast))
        return _lowered(cast, words)
    if images is None:
        ranges = observe_extremes(fp32, lambda: iter([synthetic]), on_progress=report)
        seen = "synthetic images only: give --calibration to check it on yours"
    else:
        batch = batch_that_fits(CALIBRATION_BATCH, area_of(inputs.preprocess))
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
    sentence = f"fp16: values up to {largest:.3g} (float16 holds 65504), seen on {seen}"
    return _lowered(cast, (sentence, *_kept(cast)), ranges, float(f"{largest:.3g}"))


def _lowered(
    cast: Fp16, sentences: tuple[str, ...], ranges: Ranges | None = None, largest: float | None = None
) -> Lowered:
    record = Fp16Record({kept.layer: kept.reason for kept in cast.kept}, largest)
    file = ModelFile("fp16", cast.model, "float16", (), cast.model)
    return Lowered((file,), ranges, Evidence(fp16=record), sentences=sentences)


def _kept(cast: Fp16) -> list[str]:
    """Say which layers stay in float32, grouped by their reason."""
    if not cast.kept:
        return ["fp16: every layer fits; input, output and Softmax stay float32"]
    kinds = Counter(kept.reason.partition(" ")[0] for kept in cast.kept)
    some = [f"{kept.layer} ({kept.reason})" for kept in cast.kept[:_NAMED]]
    more = len(cast.kept) - len(some)
    reasons = " and ".join(f"{count} for their {kind}" for kind, count in sorted(kinds.items()))
    return [f"fp16: layers that stay float32, {reasons}: {', '.join(some)}{f' and {more} more' if more else ''}"]
