"""Agreement, accuracy and latency of a bundle under test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from xxdeploy.datasets.images import EVALUATION_BATCH
from xxdeploy.diagnose.verify_bundle import output_of
from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.results import Accuracy, Evidence, ModelOutput, Runner, figure_named
from xxdeploy.runtime import Runtime
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.inputs import InputForm, random_samples
from xxdeploy.verify import FIGURE_PROMISES, compare_with, evaluate, evaluate_texts, figure_verdict, record_reference

if TYPE_CHECKING:
    from xxdeploy.datasets.images import ImageSet
    from xxdeploy.diagnose.first_fault import Reference

_SLACK = 0.01
"""Tolerance for another processor, on which rounding may change the class of an image or two."""
_FIGURE_SLACK = 0.05
"""The same for figures of pictures, masks and values, as a share of the figure."""
_NORMAL_99 = 2.576
_FLOOR = {"fp32": 0.999, "fp16": 0.98, "int8": 0.8}
"""Least agreement if the bundle records none."""


def check_agreement(runtime: Runtime, reference: Reference, images: ImageSet, least: float | None) -> dict[str, str]:
    """Measure the share of images with the same class, or the same text, from the bundle and from the float graph.

    The limit is ``least``; by default the lower end of the interval recorded by the export, less one point.
    ``VerificationError`` ``agreement``.
    """
    from xxdeploy.runtime.engines.ort import OrtSession

    # The reference uses its own preprocessing, if that is known.
    right = reference.preprocess or runtime.manifest.form
    known: dict[str, int] = {}

    def measured(runner: Runner, form: InputForm) -> Accuracy:
        batches = images.batches(form, EVALUATION_BATCH)
        if runtime.manifest.blank is None:
            return evaluate(runner, batches, None)
        return evaluate_texts(runner, batches, None, output_of(runtime), known)

    expected = measured(OrtSession(reference.fp32.to_bytes(), name="onnx-fp32"), right)
    actual = measured(runtime.session, runtime.manifest.form)
    share = actual.agreement(expected)
    if least is None:
        least = _recorded_agreement(runtime)
    if share < least:
        changed = [index for index, (a, b) in enumerate(zip(actual.classes, expected.classes, strict=True)) if a != b]
        raise VerificationError(
            f"{runtime.session.name}: {share:.1%} of {actual.images} images keep the answer of onnx-fp32, less than "
            f"{least:.1%}; the first that changes is {images.names[changed[0]]}",
            hint="the check parity names the layer",
            code="agreement",
        )
    return {"agreement": f"{share:.1%} of {actual.images} images (at least {least:.1%})"}


def check_figures(
    runtime: Runtime, reference: Reference, images: ImageSet, asked: Mapping[str, float]
) -> dict[str, str]:
    """Compare the pictures, masks or values of the bundle with the float graph's, by the measure of the task.

    ``asked`` are limits by names of ``FIGURE_PROMISES``, by default those of :func:`recorded_limits`.
    ``VerificationError`` as in ``FIGURE_PROMISES``; ``UsageError`` ``promise-task``: a limit of another task.
    """
    from xxdeploy.runtime.engines.ort import OrtSession

    manifest = runtime.manifest
    floats = OrtSession(reference.fp32.to_bytes(), name="onnx-fp32")
    first = next(images.batches(manifest.preprocess, 1))
    shape = floats.run(first).shape[1:]
    output = ModelOutput(manifest.output_name, manifest.classes or None, manifest.task, shape, manifest.output_range)
    batches = partial(images.batches, manifest.preprocess, EVALUATION_BATCH)
    recorded = record_reference(floats, batches(), classes=False, output=output)
    comparison = compare_with(recorded, runtime.session, batches())
    known = [name for name, promise in FIGURE_PROMISES.items() if figure_named(comparison.figures, promise.figure)]
    for name in asked:
        if name not in known:
            raise UsageError(
                f"--xxdeploy-{name.replace('_', '-')} does not apply to {manifest.name}, whose task is {manifest.task}",
                hint=f"--xxdeploy-{known[0].replace('_', '-')}",
                code="promise-task",
            )
    limits = dict(asked) or recorded_limits(runtime)
    for name, limit in limits.items():
        verdict = figure_verdict(comparison, name, limit)
        if not verdict.kept:
            raise VerificationError(verdict.line(), hint="the check parity names the layer", code=verdict.code)
    told = ", ".join(f"{name.replace('_', '-')} {limit:.4g}" for name, limit in limits.items())
    return {"agreement": f"{comparison.sentence} ({told})"}


def recorded_limits(runtime: Runtime) -> dict[str, float]:
    """Return a limit for each figure that the export recorded, by names of ``FIGURE_PROMISES``; empty without records.

    It is the worse end of the interval, or else the value, with a tolerance of 5 %.
    """
    for record in Evidence.from_json(runtime.manifest.evidence).comparison:
        if record.candidate == f"onnx-{runtime.variant.name}":
            limits = {}
            for name, promise in FIGURE_PROMISES.items():
                figure = figure_named(record.figures, promise.figure)
                if figure is not None:
                    rises = figure.kind.rises
                    end = figure.value if figure.interval is None else figure.interval[0 if rises else 1]
                    limits[name] = end * (1 - _FIGURE_SLACK if rises else 1 + _FIGURE_SLACK)
            return limits
    return {}


def _recorded_agreement(runtime: Runtime) -> float:
    low = _FLOOR[runtime.variant.precision]
    for record in Evidence.from_json(runtime.manifest.evidence).comparison:
        if record.agreement_interval is not None and record.candidate == f"onnx-{runtime.variant.name}":
            low = max(low, record.agreement_interval[0] - _SLACK)
    return low


def check_accuracy(runtime: Runtime, images: ImageSet, least: float | None = None) -> dict[str, str]:
    """Compare top-1 on the images with ``least`` (0..1), and with the record of the export for this variant.

    On the images of the record it may be one point lower; on other images also by chance, up to the 99 % bound for the
    difference of two shares of so many images. ``VerificationError``: ``accuracy-below-floor``: less than ``least``;
    ``accuracy-below-card``, with an explanation if there is one: other order of labels, other preprocessing.
    """
    from xxdeploy.diagnose.explain import data_digest, explain_accuracy, explain_digest

    accuracy = evaluate(runtime.session, images.batches(runtime.manifest.form, EVALUATION_BATCH), images.labels)
    assert accuracy.top1 is not None
    if least is not None and accuracy.top1 < least:
        raise VerificationError(
            f"{runtime.session.name}: top-1 is {accuracy.top1:.1%} on {accuracy.images} images, less than {least:.1%}",
            hint="check the labels and their order, and the preprocessing",
            code="accuracy-below-floor",
        )
    recorded = recorded_accuracy(runtime)
    if recorded is not None and (told := explain_digest(runtime.manifest, images, recorded[2])):
        raise VerificationError(
            f"preprocess: {told} (top-1 is {accuracy.top1:.1%}, the export measured {recorded[0]:.1%})",
            hint="export the bundle again",
            code="accuracy-below-card",
        )
    if recorded is None:
        return {"top-1": f"{accuracy.top1:.1%} of {accuracy.images} images (the bundle records none)"}
    top1, count, digest = recorded
    slack = _SLACK
    if digest != data_digest(runtime.manifest.form, images):
        spread = top1 * (1 - top1) * (1 / count + 1 / accuracy.images)
        slack += _NORMAL_99 * math.sqrt(max(spread, 0.25 / accuracy.images**2))
    if accuracy.top1 < top1 - slack:
        raise VerificationError(
            f"{explain_accuracy(runtime, images, accuracy.top1, top1)}{runtime.session.name}: "
            f"top-1 is {accuracy.top1:.1%} on {accuracy.images} images, the export measured {top1:.1%} on {count} "
            f"(at most {slack:.1%} less is allowed)",
            hint="the check parity names the layer",
            code="accuracy-below-card",
        )
    return {"top-1": f"{accuracy.top1:.1%} of {accuracy.images} images (export {top1:.1%})"}


def recorded_accuracy(runtime: Runtime) -> tuple[float, int, str] | None:
    """Return top-1 as the export measured it, the number of images, and their digest; None if it measured none."""
    accuracy, name = Evidence.from_json(runtime.manifest.evidence).accuracy, runtime.variant.name
    for row in () if accuracy is None else accuracy.runners:
        if row.runner in (f"onnx-{name}", f"onnx-{name.removesuffix('-arm')}") and row.top1 is not None:
            assert accuracy is not None
            return row.top1, accuracy.images, accuracy.data_sha256
    return None


def check_latency(runtime: Runtime, beside: Session, budget: float) -> dict[str, str]:
    """Measure the median time from a decoded image to the output as a ratio to ``beside``; runs are interleaved.

    ``VerificationError`` ``over-budget``.
    """
    from xxdeploy.exporter.stages import FromPixels, measure_latency  # the exporter, which a device lacks

    p = runtime.manifest.form
    picture = p.pixels(random_samples(p, 1))
    ours, theirs = measure_latency(
        [FromPixels(session, p) for session in (runtime.session, beside)], picture, lambda _: None
    )
    ratio = ours / theirs
    told = f"{ours:.2f} ms against {theirs:.2f} ms of {beside.name}: {ratio:.2f}x (budget {budget:g}x)"
    if ratio > budget:
        raise VerificationError(
            f"{runtime.session.name} takes {told}",
            hint="`xxdeploy bench` shows the distribution; repeat the test if the machine was busy",
            code="over-budget",
        )
    return {"latency": told}
