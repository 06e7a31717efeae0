"""``export``: the story on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from xxdeploy.artifacts import OnnxModel, OnProgress, Progress, Ranges, Runner, StepRecord
from xxdeploy.bundle.golden import golden_images
from xxdeploy.bundle.output import output_writable
from xxdeploy.bundle.pack import pack
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.optional import extra
from xxdeploy.pipeline.parts import GOLDEN_IMAGES, INT8_SCHEME, Built, bundle_parts
from xxdeploy.pipeline.plan import ExportPlan, Inputs, follow
from xxdeploy.pipeline.prove import (
    EXACT_IMAGES,
    INT8_IMAGES,
    Remembered,
    closing_rows,
    measure_accuracy,
    measure_latency,
    pictures,
    prove_stage,
    tolerance_for,
    uneven_batches,
)
from xxdeploy.pipeline.results import ExportResult
from xxdeploy.runtime.ort import OrtSession
from xxdeploy.verify import check_drop

CALIBRATION_BATCH = 8
CORRECTION_IMAGES = 96
"""Bias correction averages over every position of every image: more images change nothing that can be measured."""


def export(spec: ModelSpec, plan: ExportPlan, out: Path, *, on_progress: OnProgress | None = None) -> ExportResult:
    """Build, convert, tune, quantise, prove, and write a bundle to ``out``.

    Everything that can be refused is refused before TensorFlow is imported. A stage that is not the same model as
    Keras fails the export, and nothing is written: ``out`` appears at the very end, whole.

    Raises
    ------
    XXDeployError
        See ``docs/errors.md``: ``UsageError`` for what was asked, ``ConversionError`` for a step that failed,
        ``VerificationError`` for a stage outside its tolerance or an accuracy below ``max_drop``.
    """
    report = on_progress or (lambda _: None)
    output_writable(out, plan.force)
    inputs = follow(spec, plan)
    steps: list[StepRecord] = []
    timed = _timer(steps, report)

    with extra("export"):
        from xxdeploy.convert.build import build_model
        from xxdeploy.convert.keras_to_onnx import onnx_from_keras
        from xxdeploy.convert.runner import KerasRunner
        from xxdeploy.graph.optimize import optimize

    with timed("build"):
        model = build_model(spec, weights=plan.weights, options=inputs.options)
    with timed("convert"):
        raw = onnx_from_keras(model, outputs=("features" if inputs.task == "features" else "probabilities",))
    with timed("optimise"):
        fp32, records = optimize(raw)
        del raw
    steps.extend(records)

    trained = plan.weights != "none"
    golden = golden_images(GOLDEN_IMAGES, inputs.preprocess.height, inputs.preprocess.width, spec.channels)
    normal = inputs.preprocess.normalise(golden)
    count = EXACT_IMAGES if plan.precision == "fp32" else INT8_IMAGES
    reference = KerasRunner(model)
    keras = Remembered(reference)
    batches = uneven_batches(pictures(inputs, count, normal), count)
    with timed("parity fp32"):
        few = batches[:2]
        parities = prove_stage(keras, fp32, "onnx-fp32", few, tolerance_for(inputs.task, "fp32", trained=trained))

    stages: dict[str, OnnxModel] = {"onnx-fp32": fp32}
    ranges = None
    if plan.precision == "int8":
        with timed("quantise"):
            int8, ranges = _quantised(fp32, inputs, report)
        stages["onnx-int8"] = int8
        with timed("parity int8"):
            tolerance = tolerance_for(inputs.task, "int8", trained=trained)
            parities += prove_stage(keras, int8, "onnx-int8", batches, tolerance)

    runners: list[Runner] = [reference, *(OrtSession(stage.data, name=name) for name, stage in stages.items())]
    sizes = [4 * model.count_params(), *(stage.size for stage in stages.values())]
    accuracies = measure_accuracy(runners, inputs, report)
    if plan.max_drop is not None:
        check_drop(accuracies[0], accuracies[-1], plan.max_drop)
    rows = closing_rows(runners, sizes, measure_latency(runners, normal[:1], report), accuracies)

    built = Built(spec, plan, inputs, model.name, list(stages.values())[-1], fp32.digest, ranges)
    manifest, parts = bundle_parts(built, golden, runners[-1].run(normal), parities, accuracies, records)
    with timed("write"):
        pack(manifest, parts, out, force=plan.force)
    return ExportResult(out, rows, parities, tuple(steps), inputs.notes)


def _quantised(fp32: OnnxModel, inputs: Inputs, report: OnProgress) -> tuple[OnnxModel, Ranges]:
    with extra("export"):
        from platformdirs import user_cache_path
    from xxdeploy.quantize import CalibrationKey, cached_calibration, calibrate, correct_biases, quantize, scheme

    images = inputs.calibration
    assert images is not None  # follow() has seen to it
    digest, total = inputs.data_digest(images), len(images)
    few = images.sample(min(CORRECTION_IMAGES, total))

    def compute() -> Ranges:
        return calibrate(
            fp32,
            lambda: images.batches(inputs.preprocess, CALIBRATION_BATCH),
            method=inputs.method,
            data_digest=digest,
            on_progress=lambda progress: report(Progress(progress.step, progress.done, total)),
        )

    key = CalibrationKey(fp32.digest, digest, inputs.method, total)
    ranges = cached_calibration(user_cache_path("xxdeploy") / "calibration", key, compute)
    asked = scheme(INT8_SCHEME)
    corrected = correct_biases(
        fp32, ranges, asked, lambda: few.batches(inputs.preprocess, CALIBRATION_BATCH), on_progress=report
    )
    return quantize(corrected, ranges, asked), ranges


def _timer(steps: list[StepRecord], report: OnProgress) -> Callable[[str], AbstractContextManager[None]]:
    @contextmanager
    def timed(step: str) -> Iterator[None]:
        report(Progress(step, 0, 1))
        start = time.perf_counter()
        yield
        steps.append(StepRecord(step, {}, time.perf_counter() - start))
        report(Progress(step, 1, 1))

    return timed
