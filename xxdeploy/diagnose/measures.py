"""Agreement, accuracy and latency of a bundle under test."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from xxdeploy.datasets.batch_size import EVALUATION_BATCH
from xxdeploy.errors import VerificationError
from xxdeploy.exporter.stages import FromPixels, measure_latency
from xxdeploy.results import Evidence
from xxdeploy.runtime import Runtime
from xxdeploy.runtime.engines.session import Session
from xxdeploy.verify import evaluate

if TYPE_CHECKING:
    from xxdeploy.datasets.images import ImageSet
    from xxdeploy.diagnose.first_fault import Truth

_SLACK = 0.01
"""Another processor rounds an image or two to another class."""
_NORMAL_99 = 2.576
_FLOOR = {"fp32": 0.999, "fp16": 0.98, "int8": 0.8}
"""Least agreement where the bundle records none."""


def check_agreement(runtime: Runtime, truth: Truth, images: ImageSet, least: float | None) -> dict[str, str]:
    """Share of images to which the bundle gives the float graph's class.

    Held to ``least``; by default to the lower end of the interval that the export recorded, less one point.

    Raises
    ------
    VerificationError
        ``agreement``.
    """
    from xxdeploy.runtime.engines.ort import OrtSession

    # The reference sees what Keras would: its own preprocessing, where that is known.
    right = truth.preprocess or runtime.manifest.preprocess
    reference = evaluate(
        OrtSession(truth.fp32.to_bytes(), name="onnx-fp32"), images.batches(right, EVALUATION_BATCH), None
    )
    found = evaluate(runtime.session, images.batches(runtime.manifest.preprocess, EVALUATION_BATCH), None)
    share = found.agreement(reference)
    if least is None:
        least = _recorded_agreement(runtime)
    if share < least:
        changed = [index for index, (a, b) in enumerate(zip(found.classes, reference.classes, strict=True)) if a != b]
        raise VerificationError(
            f"{runtime.session.name}: {share:.1%} of {found.images} images keep the class of onnx-fp32, at least "
            f"{least:.1%} is asked; the first that changes is {images.names[changed[0]]}",
            hint="the check of parity says which layer loses it",
            code="agreement",
        )
    return {"agreement": f"{share:.1%} of {found.images} images (at least {least:.1%})"}


def _recorded_agreement(runtime: Runtime) -> float:
    low = _FLOOR[runtime.variant.precision]
    for record in Evidence.from_json(runtime.manifest.evidence).comparison:
        if record.agreement_interval is not None and record.candidate == f"onnx-{runtime.variant.name}":
            low = max(low, record.agreement_interval[0] - _SLACK)
    return low


def check_accuracy(runtime: Runtime, images: ImageSet) -> dict[str, str]:
    """Top-1 on the images, beside what the export recorded for this variant.

    On the very images of the record it may be one point lower; on others, by chance: within 99 % of the difference of
    two shares of so many images.

    Raises
    ------
    VerificationError
        ``accuracy-below-card``, with what would explain it: labels in another order, another preprocessing.
    """
    from xxdeploy.diagnose.explain import data_digest, explain_accuracy, explain_digest

    found = evaluate(runtime.session, images.batches(runtime.manifest.preprocess, EVALUATION_BATCH), images.labels)
    assert found.top1 is not None
    recorded = _recorded(runtime)
    if recorded is not None and (told := explain_digest(runtime.manifest, images, recorded[2])):
        raise VerificationError(
            f"preprocess: {told} (top-1 is {found.top1:.1%}, the export measured {recorded[0]:.1%})",
            hint="export the bundle again",
            code="accuracy-below-card",
        )
    if recorded is None:
        return {"top-1": f"{found.top1:.1%} of {found.images} images (the bundle records none)"}
    top1, count, digest = recorded
    slack = _SLACK
    if digest != data_digest(runtime.manifest.preprocess, images):
        spread = top1 * (1 - top1) * (1 / count + 1 / found.images)
        slack += _NORMAL_99 * math.sqrt(max(spread, 0.25 / found.images**2))
    if found.top1 < top1 - slack:
        raise VerificationError(
            f"{explain_accuracy(runtime, images, found.top1, top1)}{runtime.session.name}: top-1 is {found.top1:.1%} "
            f"on {found.images} images, the export measured {top1:.1%} on {count} (allowed: {slack:.1%} less)",
            hint="the check of parity says which layer loses it",
            code="accuracy-below-card",
        )
    return {"top-1": f"{found.top1:.1%} of {found.images} images (export {top1:.1%})"}


def _recorded(runtime: Runtime) -> tuple[float, int, str] | None:
    accuracy, name = Evidence.from_json(runtime.manifest.evidence).accuracy, runtime.variant.name
    for row in () if accuracy is None else accuracy.runners:
        if row.runner in (f"onnx-{name}", f"onnx-{name.removesuffix('-arm')}") and row.top1 is not None:
            assert accuracy is not None
            return row.top1, accuracy.images, accuracy.data_sha256
    return None


def check_latency(runtime: Runtime, beside: Session, budget: float) -> dict[str, str]:
    """Median time from a decoded picture to the output, as a ratio of ``beside``, both measured in turns.

    Raises
    ------
    VerificationError
        ``over-budget``.
    """
    p = runtime.manifest.preprocess
    picture = np.random.default_rng(0).integers(0, 256, (1, p.height, p.width, p.channels), np.uint8)
    ours, theirs = measure_latency([FromPixels(each, p) for each in (runtime.session, beside)], picture, lambda _: None)
    ratio = ours / theirs
    told = f"{ours:.2f} ms against {theirs:.2f} ms of {beside.name}: {ratio:.2f}x (budget {budget:g}x)"
    if ratio > budget:
        raise VerificationError(
            f"{runtime.session.name} takes {told}",
            hint="`xxdeploy bench` shows the distribution; on a busy machine run it again",
            code="over-budget",
        )
    return {"latency": told}
