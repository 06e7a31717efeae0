"""``export``: the story on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path

from xxdeploy.artifacts import LayerNoise, OnnxModel, OnProgress, Progress, Runner, StepRecord
from xxdeploy.bundle.golden import golden_images
from xxdeploy.bundle.output import output_writable
from xxdeploy.bundle.pack import pack
from xxdeploy.errors import VerificationError
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.optional import extra
from xxdeploy.pipeline.parts import GOLDEN_IMAGES, Built, Part, bundle_parts
from xxdeploy.pipeline.plan import ExportPlan
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
from xxdeploy.pipeline.source import open_source
from xxdeploy.runtime.ort import OrtSession
from xxdeploy.verify import Comparison, agreement_verdict, comparison_facts, comparison_sentence, drop_verdict


def export(
    source: ModelSpec | Path, plan: ExportPlan, out: Path, *, on_progress: OnProgress | None = None
) -> ExportResult:
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
    steps: list[StepRecord] = []
    timed = _timer(steps, report)

    origin = open_source(source, plan, timed)
    model, inputs, trained = origin.model, origin.inputs, origin.trained
    with extra("export"):
        from xxdeploy.convert.keras_to_onnx import onnx_from_keras
        from xxdeploy.convert.runner import KerasRunner
        from xxdeploy.convert.statistics import batch_norm_statistics
        from xxdeploy.graph.optimize import optimize
    with timed("convert"):
        raw = onnx_from_keras(model, outputs=("features" if inputs.task == "features" else "probabilities",))
    with timed("optimise"):
        fp32, records = optimize(raw)
        del raw
    steps.extend(records)

    golden = golden_images(GOLDEN_IMAGES, inputs.preprocess.height, inputs.preprocess.width, inputs.preprocess.channels)
    normal = inputs.preprocess.normalise(golden)
    count = EXACT_IMAGES if plan.precision == "fp32" else INT8_IMAGES
    reference = KerasRunner(model)
    keras = Remembered(reference)
    batches = uneven_batches(pictures(inputs, count, normal), count)
    with timed("parity fp32"):
        few = batches[:2]
        parities = prove_stage(keras, fp32, "onnx-fp32", few, tolerance_for(inputs.task, "fp32", trained=trained))

    stages: dict[str, OnnxModel] = {"onnx-fp32": fp32}
    parts: list[tuple[str, OnnxModel, str, tuple[str, ...], OnnxModel]] = [("fp32", fp32, "float32", (), fp32)]
    int8 = None
    if plan.precision == "int8":
        from xxdeploy.pipeline.int8 import make_int8

        with timed("quantise"):
            int8 = make_int8(origin, plan, fp32, batch_norm_statistics(model), report)
        built = int8.variants.built
        parts = [(each.name, each.model, each.scheme, each.requires, each.answers) for each in built]
        # What an ARM file computes is known from the file that it shares its integers with, which names the stage.
        for each in sorted(built, key=lambda each: each.answers is not each.model):
            if all(each.answers is not stage for stage in stages.values()):
                stages[f"onnx-{each.name}"] = each.answers
        with timed("parity int8"):
            tolerance = tolerance_for(inputs.task, "int8", trained=trained)
            for name, stage in list(stages.items())[1:]:
                parities += prove_stage(keras, stage, name, batches, tolerance)

    exact = (OrtSession(stage.data, name=name, exact=True) for name, stage in stages.items())
    accuracies, comparisons = measure_accuracy(chain([reference], exact), inputs, report)
    if int8 is None:
        _judge(plan, comparisons)
    sentences = _judge(plan, comparisons[1:], int8.judged, int8.noise) if int8 else ()
    timing: list[Runner] = [reference, *(OrtSession(stage.data, name=name) for name, stage in stages.items())]
    sizes = [4 * model.count_params(), *(stage.size for stage in stages.values())]
    rows = closing_rows(timing, sizes, measure_latency(timing, normal[:1], report), accuracies)
    del timing

    answers: dict[str, OnnxModel] = {name: answer for name, _, _, _, answer in parts}
    expected = {name: OrtSession(answer.data, exact=True).run(normal) for name, answer in answers.items()}
    found = int8.facts if int8 else {}
    if comparisons:
        found = {**found, "comparison": [comparison_facts(each) for each in comparisons]}
    made = Built(
        name=origin.name,
        source=origin.facts,
        plan=plan,
        inputs=inputs,
        keras_name=model.name,
        parts=tuple(Part(name, file, scheme, needs, expected[name]) for name, file, scheme, needs, _ in parts),
        fp32_digest=fp32.digest,
        ranges=int8.ranges if int8 else None,
        records=int8.records if int8 else {},
        found=found,
    )
    manifest, files = bundle_parts(made, golden, parities, accuracies, records)
    with timed("write"):
        pack(manifest, files, out, force=plan.force)
    return ExportResult(
        bundle=out,
        rows=rows,
        parities=parities,
        steps=tuple(steps),
        notes=inputs.notes,
        task=inputs.task,
        rungs=int8.rungs if int8 else (),
        sentences=sentences,
        processors=int8.variants.sentences if int8 else (),
    )


def _judge(
    plan: ExportPlan,
    comparisons: Sequence[Comparison],
    selection: Sequence[Comparison] = (),
    noise: Sequence[LayerNoise] = (),
) -> tuple[str, ...]:
    """Say what the evaluation shows of each model; raise where a promise is broken.

    Without an evaluation set the promise of agreement is held to the selection images.
    """
    sentences = []
    for each in comparisons or selection:
        sentences.append(f"{each.candidate}: {comparison_sentence(each)}")
        verdicts = []
        if plan.min_agreement is not None and each.agreement is not None:
            verdicts.append(agreement_verdict(each, plan.min_agreement))
        if plan.max_drop is not None and comparisons:
            verdicts.append(drop_verdict(each, plan.max_drop))
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
