"""``export``: from a Keras model to a verified bundle, on one page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.bundle.folder import output_writable
from xxdeploy.bundle.pack import golden_inputs, pack
from xxdeploy.engine import Engine
from xxdeploy.exporter.assemble import GOLDEN_IMAGES, assemble, collect_evidence
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.option_groups import Budgets
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.precision import check_litert, lower
from xxdeploy.exporter.promises import check_sequence, keep_budgets
from xxdeploy.exporter.report_data import CLI, Caller, command_of, measured, pairs_of
from xxdeploy.exporter.result import ExportResult, Lowered
from xxdeploy.exporter.source import Given, Source, asks_pictures, open_source
from xxdeploy.exporter.stages import (
    FEW_BATCHES,
    Remembered,
    closing_rows,
    conclude,
    measure_accuracy,
    parity_batches,
    prove_stage,
    time_stages,
    tolerances,
)
from xxdeploy.exporter.trt_engine import bundled_engine, check_engine, engine_sentence, export_engine, prove_engine
from xxdeploy.memory import release_memory
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.optional import extra
from xxdeploy.report import REPORT, Timing, render_report
from xxdeploy.report.preprocessor import PREPROCESSOR, unsaid
from xxdeploy.results import OnProgress, Progress, Runner, StepRecord
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.engines.select import LITERT
from xxdeploy.site.files import engine_files, site_files
from xxdeploy.verify import check_independence

if TYPE_CHECKING:
    from xxdeploy.convert.runner import KerasRunner

_LOWERING = {"fp32": "keep", "fp16": "cast", "int8": "quantize"}


def export(
    source: Given, options: ExportOptions, out: Path, *, on_progress: OnProgress | None = None, caller: Caller = CLI
) -> ExportResult:
    """Build, convert, optimize, lower, prove, measure, and write a bundle to ``out``.

    Options are refused before TensorFlow is imported wherever that is possible. A stage that does not match Keras fails
    the export, and nothing is written: ``out`` appears at the very end, whole. ``caller`` says who asks.

    Raises
    ------
    XXDeployError
        See ``docs/reference/errors.md``: ``UsageError`` for options and images, ``ConversionError`` for a step that
        failed, ``VerificationError`` for a stage outside its tolerance, a broken promise or an exceeded budget.
    """
    report = on_progress or (lambda _: None)
    _check(options, out)
    precision, threshold = options.precision.name, options.proof.threshold
    timed = _StepTimer(report, _steps(source, options))
    origin = open_source(source, options, timed).with_notes(caller.notes)
    inputs = origin.inputs
    fp32, passes = _float_graph(origin, timed)
    keras, reference = _keras_runner(origin)
    golden, synthetic, batches = _samples(inputs, exact=precision == "fp32")
    with timed("parity fp32"):
        check_independence(reference, max(synthetic, *batches[:FEW_BATCHES], key=len))
        parities = prove_stage(reference, fp32, "onnx-fp32", batches[:FEW_BATCHES], tolerances(origin, "fp32"))

    with timed(_LOWERING[precision]):
        lowered = lower(origin, options, fp32, synthetic=synthetic, report=report)
    stages, limits = lowered.stages(fp32), tolerances(origin, precision)
    with timed(f"parity {precision}") if precision != "fp32" else nullcontext():
        for name in list(stages)[1:]:
            parities += prove_stage(reference, stages[name], name, batches, limits)
    with timed("engine") if options.gpu.engine or options.has_litert else nullcontext():
        engine, device = export_engine(options, lowered.files, report)
        parities += prove_engine(reference, device, batches, limits[origin.output_names[0]])

    exact = (open_session(model, name=name, exact=True) for name, model in stages.items())
    with timed(_MEASURE):
        accuracies, comparisons = measure_accuracy(chain([keras], exact, device), inputs, report, threshold)
        concluded = conclude(options, lowered, accuracies, comparisons, origin.outputs[0].classes)
        timings = _timings((keras, *device), origin, lowered, fp32, engine, golden[:1], report)

    evidence = collect_evidence(
        inputs, lowered, parities=parities, passes=passes, accuracies=accuracies, comparisons=comparisons, engine=engine
    )
    more = site_files(LITERT, options.gpu.engine_files) if options.gpu.target == "web" else bundled_engine(engine)
    manifest, files = assemble(origin, options, lowered, evidence, golden=golden, fp32=fp32, more_files=more)
    concluded = concluded.warned(*inputs.warnings).plus(*_sentences(engine, manifest, options))
    with timed("report"):
        seen = measured(
            caller.command or command_of(source.name, options), options, inputs, lowered,
            timings=timings, accuracies=accuracies, steps=timed.steps, concluded=concluded,
        ).with_pairs(*pairs_of(options, inputs, keras, stages))  # fmt: skip
        files[REPORT] = render_report(manifest, lowered.noise, seen.of_files(files)).encode()
    with timed("budgets") if options.budgets != Budgets() else nullcontext():
        concluded = concluded.plus(*keep_budgets(options.budgets, manifest, files))
    with timed("write"):
        pack(manifest, files, out, force=options.output.force)
    return ExportResult(
        bundle=out,
        rows=closing_rows(timings, accuracies, comparisons, origin.outputs[0].classes),
        parities=parities,
        steps=tuple(timed.steps),
        notes=tuple(note for note in inputs.notes if note not in inputs.warnings),
        task=inputs.task,
        rungs=lowered.evidence.ladder,
        conclusions=concluded,
        processors=lowered.processors,
        inputs=origin.input_names,
    )


def _check(options: ExportOptions, out: Path) -> None:
    """Refuse options that can be refused before any work."""
    output_writable(out, options.output.force)
    check_engine(options)
    check_litert(options)
    if options.gpu.target == "web":
        engine_files(LITERT, options.gpu.engine_files)
    check_sequence(options)


def _sentences(engine: Engine | None, manifest: Manifest, options: ExportOptions) -> tuple[str, ...]:
    """Return a sentence about the engine, and one about a file of ``--card`` that cannot be written."""
    missing = unsaid(manifest) if options.output.card else ""
    return (
        *((engine_sentence(engine),) if engine else ()),
        *((f"note: no {PREPROCESSOR} was written: {missing}",) if missing else ()),
    )


_MEASURE = "accuracy and latency"


def _steps(source: Given, options: ExportOptions) -> tuple[str, ...]:
    """Return the names of the steps that :func:`export` will go through, in order."""
    precision = options.precision.name
    return (
        "build" if isinstance(source, ModelSpec) else "load",
        *(("diagnose",) if asks_pictures(source, options) else ()),
        "convert",
        "optimize",
        "parity fp32",
        _LOWERING[precision],
        *((f"parity {precision}",) if precision != "fp32" else ()),
        *(("engine",) if options.gpu.engine or options.has_litert else ()),
        _MEASURE,
        "report",
        *(("budgets",) if options.budgets != Budgets() else ()),
        "write",
    )


class _StepTimer:
    """Reports the begin and the end of each step with its place in ``names``, and keeps its seconds in ``steps``.

    After each step, memory goes back to the system: the peak of an export is that of one step.
    """

    def __init__(self, report: OnProgress, names: tuple[str, ...]) -> None:
        self.steps: list[StepRecord] = []
        self._report = report
        self._names = names

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        place = self._names.index(step) + 1, len(self._names)
        self._report(Progress(step, 0, 1, place))
        start = time.perf_counter()
        yield
        release_memory()
        self.steps.append(StepRecord(step, {}, time.perf_counter() - start))
        self._report(Progress(step, 1, 1, place))


def _float_graph(origin: Source, timed: _StepTimer) -> tuple[OnnxModel, tuple[StepRecord, ...]]:
    """Convert the Keras model and optimize the graph; return it with the records of the passes."""
    with extra("export"):
        from xxdeploy.convert.keras_to_onnx import onnx_from_keras
        from xxdeploy.passes.optimize import optimize
    with timed("convert"):
        converted = onnx_from_keras(origin.model, inputs=origin.input_names, outputs=origin.output_names)
    with timed("optimize"):
        fp32, records = optimize(converted)
    timed.steps.extend(records)
    return fp32, records


def _keras_runner(origin: Source) -> tuple[KerasRunner, Remembered]:
    """Return the Keras model as a runner, and one that computes each batch once."""
    with extra("export"):
        from xxdeploy.convert.runner import KerasRunner
    runner = KerasRunner(origin.model, outputs=origin.output_names)
    return runner, Remembered(runner, runner.exact)


def _samples(inputs: Inputs, *, exact: bool) -> tuple[NDArray[Any], NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return the decoded samples of the self-test, the same preprocessed, and the batches for parity."""
    decoded = golden_inputs(GOLDEN_IMAGES, inputs.preprocess)
    synthetic = inputs.preprocess.normalize(decoded)
    return decoded, synthetic, parity_batches(inputs, synthetic, exact=exact)


def _timings(
    others: tuple[Runner, ...],
    origin: Source,
    lowered: Lowered,
    fp32: OnnxModel,
    engine: Engine | None,
    image: NDArray[Any],
    report: OnProgress,
) -> tuple[Timing, ...]:
    """Time Keras, each shipped file, and what runs in another engine, on one decoded ``image``.

    ``others`` are Keras, and TensorRT's engine if it runs here or the LiteRT files.
    """
    keras, *device = others
    models = lowered.shipped(fp32)
    runners = [keras, *(open_session(model, name=name) for name, model in models.items()), *device]
    sizes = [4 * origin.model.count_params(), *(model.size for model in models.values())]
    flat = [len(file.flat) for file in lowered.files if file.flat is not None]
    sizes += [engine.size for _ in device] if engine else flat
    return time_stages(runners, sizes, image, origin.inputs, report)
