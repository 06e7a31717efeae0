"""``export``: the story on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median

from xxdeploy.bundle.golden import golden_images
from xxdeploy.bundle.output import output_writable
from xxdeploy.bundle.pack import pack
from xxdeploy.errors import VerificationError
from xxdeploy.exporter.assemble import GOLDEN_IMAGES, Built, bundle_parts, part_from
from xxdeploy.exporter.budgets import keep_budgets
from xxdeploy.exporter.options import Budgets, ExportOptions
from xxdeploy.exporter.precision import finish, lower
from xxdeploy.exporter.report_data import measured
from xxdeploy.exporter.result import ExportResult
from xxdeploy.exporter.source import open_source
from xxdeploy.exporter.stages import (
    EXACT_IMAGES,
    INT8_IMAGES,
    FromPixels,
    Remembered,
    closing_rows,
    latency_samples,
    measure_accuracy,
    pictures,
    prove_stage,
    tolerances,
    uneven_batches,
)
from xxdeploy.exporter.trt_engine import bundled_engine, check_engine, engine_sentence, export_engine, prove_engine
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.optional import extra
from xxdeploy.report import REPORT, Timing, render_report
from xxdeploy.results import EngineRecord, LayerNoise, OnProgress, Progress, Runner, StepRecord
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.verify import Comparison, agreement_verdict, drop_verdict


def export(
    source: ModelSpec | Path, options: ExportOptions, out: Path, *, on_progress: OnProgress | None = None
) -> ExportResult:
    """Build, convert, tune, quantize, prove, and write a bundle to ``out``.

    Everything that can be refused is refused before TensorFlow is imported. A stage that is not the same model as
    Keras fails the export, and nothing is written: ``out`` appears at the very end, whole.

    Raises
    ------
    XXDeployError
        See ``docs/errors.md``: ``UsageError`` for what was asked, ``ConversionError`` for a step that failed,
        ``VerificationError`` for a stage outside its tolerance or an accuracy below ``max_drop``.
    """
    report = on_progress or (lambda _: None)
    output_writable(out, options.output.force)
    check_engine(options)
    steps: list[StepRecord] = []
    timed = _timer(steps, report)

    origin = open_source(source, options, timed)
    model, inputs, trained = origin.model, origin.inputs, origin.trained
    with extra("export"):
        from xxdeploy.convert.keras_to_onnx import onnx_from_keras
        from xxdeploy.convert.runner import KerasRunner
        from xxdeploy.passes.optimize import optimize
    with timed("convert"):
        raw = onnx_from_keras(model, outputs=origin.output_names)
    with timed("optimize"):
        fp32, records = optimize(raw)
        del raw
    steps.extend(records)

    golden = golden_images(GOLDEN_IMAGES, inputs.preprocess.height, inputs.preprocess.width, inputs.preprocess.channels)
    normal = inputs.preprocess.normalize(golden)
    count = EXACT_IMAGES if options.precision.name == "fp32" else INT8_IMAGES
    reference = KerasRunner(model, outputs=origin.output_names)
    keras = Remembered(reference)
    batches = uneven_batches(pictures(inputs, count, normal), count)
    with timed("parity fp32"):
        few = batches[:2]
        parities = prove_stage(keras, fp32, "onnx-fp32", few, tolerances(origin.outputs, "fp32", trained=trained))

    step = {"fp32": "keep", "fp16": "cast", "int8": "quantize"}[options.precision.name]
    with timed(step):
        lowered = lower(origin, options, fp32, made_up=normal, report=report)
        lowered = finish(lowered, options, inputs.classes)
    stages = lowered.stages(fp32)
    limits = tolerances(origin.outputs, options.precision.name, trained=trained)
    if len(stages) > 1:
        with timed(f"parity {options.precision.name}"):
            for name, stage in list(stages.items())[1:]:
                parities += prove_stage(keras, stage, name, batches, limits)
    with timed("engine") if options.gpu.engine else nullcontext():
        engine, device = export_engine(options, lowered.files[0].model, report)
        parities += prove_engine(keras, device, batches, limits[origin.output_names[0]])

    exact = (OrtSession(stage.to_bytes(), name=name, exact=True) for name, stage in stages.items())
    accuracies, comparisons = measure_accuracy(chain([reference], exact, device), inputs, report)
    judged = comparisons if options.precision.name == "fp32" else comparisons[1:]
    sentences = _judge(options, judged, lowered.judged, lowered.noise)
    shipped = lowered.shipped(fp32)
    timing: list[Runner] = [
        reference,
        *(OrtSession(each.to_bytes(), name=name) for name, each in shipped.items()),
        *device,
    ]
    timing = [FromPixels(each, inputs.preprocess) for each in timing]
    sizes = [4 * model.count_params(), *(each.size for each in shipped.values())]
    sizes += [engine.size for _ in device if engine]
    times = latency_samples(timing, golden[:1], report)
    timings = [Timing(each.name, *pair) for each, *pair in zip(timing, sizes, map(tuple, times), strict=True)]
    rows = closing_rows(timing, sizes, [median(each) for each in times], accuracies)
    del timing

    parts = tuple(part_from(each, normal, options) for each in lowered.files)
    evidence = lowered.evidence
    if engine:
        evidence = replace(evidence, engine=EngineRecord.from_facts(engine.facts))
    evidence = replace(evidence, comparison=tuple(each.record for each in comparisons))
    made = Built(
        name=origin.name,
        source=origin.facts,
        outputs=origin.outputs,
        options=options,
        inputs=inputs,
        keras_name=model.name,
        parts=parts,
        fp32_digest=fp32.digest,
        ranges=lowered.ranges,
        records={**lowered.records, **bundled_engine(engine)},
        evidence=evidence,
    )
    manifest, files = bundle_parts(made, golden, parities, accuracies, records)
    words = (*sentences, *lowered.sentences, *((engine_sentence(engine),) if engine else ()))
    with timed("report"):
        seen = measured(
            source.name,
            options,
            inputs,
            lowered,
            timings=timings,
            accuracies=accuracies,
            steps=steps,
            sentences=words,
        )
        files[REPORT] = render_report(manifest, lowered.noise, seen).encode()
    with timed("budgets") if options.budgets != Budgets() else nullcontext():
        kept = keep_budgets(options.budgets, manifest, files)
    with timed("write"):
        pack(manifest, files, out, force=options.output.force)
    return ExportResult(
        bundle=out,
        rows=rows,
        parities=parities,
        steps=tuple(steps),
        notes=inputs.notes,
        task=inputs.task,
        rungs=lowered.evidence.ladder,
        sentences=(*words, *kept),
        processors=lowered.processors,
    )


def _judge(
    options: ExportOptions,
    comparisons: Sequence[Comparison],
    selection: Sequence[Comparison] = (),
    noise: Sequence[LayerNoise] = (),
) -> tuple[str, ...]:
    """Say what the evaluation shows of each model; raise where a promise is broken.

    Without an evaluation set the promise of agreement is held to the selection images.
    """
    sentences = []
    for each in comparisons or selection:
        sentences.append(f"{each.candidate}: {each.sentence}")
        verdicts = []
        if options.proof.min_agreement is not None and each.agreement is not None:
            verdicts.append(agreement_verdict(each, options.proof.min_agreement))
        if options.proof.max_drop is not None and comparisons:
            verdicts.append(drop_verdict(each, options.proof.max_drop))
        for verdict in verdicts:
            if not verdict.kept:
                raise VerificationError(
                    f"{each.candidate}: {verdict.message}", hint=_what_helps(noise), code="accuracy-drop"
                )
            sentences.append(f"{each.candidate}: {verdict.message}")
    return tuple(sentences)


def _what_helps(noise: Sequence[LayerNoise]) -> str:
    """Name the layers that lose most, and what a person can do."""
    ways = "more calibration images (--samples), or another promise"
    worst = ", ".join(each.layer for each in noise[:3])
    return (
        f"the most sensitive layers are {worst}; leave them in float by a --recipe, {ways}" if worst else f"try {ways}"
    )


def _timer(steps: list[StepRecord], report: OnProgress) -> Callable[[str], AbstractContextManager[None]]:
    @contextmanager
    def timed(step: str) -> Iterator[None]:
        report(Progress(step, 0, 1))
        start = time.perf_counter()
        yield
        steps.append(StepRecord(step, {}, time.perf_counter() - start))
        report(Progress(step, 1, 1))

    return timed
