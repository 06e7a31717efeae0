"""Compare each stage with Keras on the same images, judge it, and time the stages with interleaved runs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.images import EVALUATION_BATCH, ImageSet, batch_that_fits
from xxdeploy.errors import VerificationError
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.promises import keep_promises, warnings_about
from xxdeploy.exporter.result import Conclusions, Lowered, TableRow
from xxdeploy.exporter.source import Source
from xxdeploy.memory import release_memory
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.report import Timing
from xxdeploy.results import (
    Accuracy,
    ManyRunner,
    OnProgress,
    Parity,
    Progress,
    Runner,
)
from xxdeploy.runtime.engines.session import batch_for, session_from
from xxdeploy.runtime.inputs import InputForm, area_of
from xxdeploy.verify import (
    EXACT_FEATURES,
    EXACT_PROBABILITIES,
    FP16_FEATURES,
    FP16_OUTPUTS,
    FP16_PROBABILITIES,
    FP16_SCORES,
    INT8_FEATURES,
    INT8_OUTPUTS,
    INT8_PROBABILITIES,
    INT8_SCORES,
    Comparison,
    Tolerance,
    check,
    check_errors,
    compare,
    compare_with,
    evaluate,
    evaluate_texts,
    judge_paired,
    record_reference,
    rounding_of,
)

FLOAT_STAGES = (EXACT_FEATURES, EXACT_PROBABILITIES)
EXACT_IMAGES, INT8_IMAGES, _PARITY_BATCH = 8, 64, 4
"""Float stages differ by rounding only, which few images show; a share of agreement needs more, in small batches."""
FEW_BATCHES = 3
"""These hold 1, 4 and 4 images; of large pictures fewer."""
_LATENCY_ROUNDS, _WARM_UP = 15, 3

Batch = NDArray[np.float32]


class Remembered:
    """A runner that computes each batch once, whatever its outputs are compared with.

    ``exact`` computes every output in float64 for all of some batches; None where that cannot be done.
    """

    def __init__(
        self,
        runner: ManyRunner,
        exact: Callable[[Sequence[Batch]], Mapping[str, NDArray[np.float64]]] | None = None,
    ) -> None:
        self.name = runner.name
        self._runner: ManyRunner | None = runner
        self._compute = exact
        self._exact: Mapping[str, NDArray[np.float64]] | None = None
        self._known: dict[int, tuple[Batch, dict[str, Batch]]] = {}

    def exact(self, output: str, batches: Sequence[Batch]) -> NDArray[np.float64] | None:
        """Return an output in float64 for the ``batches`` of the first call, joined; None where it is not known."""
        if self._compute is None:
            return None
        if self._exact is None:
            self._exact = self._compute(batches)
        return self._exact[output]

    def run(self, batch: Batch) -> Batch:
        """Return the first output; the result of an array object is kept."""
        return next(iter(self.run_all(batch).values()))

    def run_all(self, batch: Batch) -> dict[str, Batch]:
        """Return every output by its name."""
        if id(batch) not in self._known:
            assert self._runner is not None, "the batch is none of those of finish()"
            self._known[id(batch)] = batch, self._runner.run_all(batch)  # holding the batch keeps its id unique
        return self._known[id(batch)][1]

    def finish(self, batches: Sequence[Batch]) -> None:
        """Compute all ``batches``, and let the runner go: only its outputs are needed from here on."""
        for batch in batches:
            self.run_all(batch)
        self._runner = None


class Picked:
    """One output of a runner that has several, as a runner of its own."""

    def __init__(self, runner: ManyRunner, output: str) -> None:
        self.name = f"{output} of {runner.name}"
        self._runner, self._output = runner, output

    def run(self, batch: Batch) -> Batch:
        """Return the output."""
        return self._runner.run_all(batch)[self._output]


class FromPixels:
    """A runner of decoded samples: its time includes the scaling, unless the engine reads pixels."""

    def __init__(self, runner: Runner, preprocess: InputForm) -> None:
        self.name = runner.name
        self._session, self._preprocess = session_from(runner), preprocess

    def run(self, batch: NDArray[Any]) -> Batch:
        """Return the first output for (n, h, w, c) uint8, or what ``preprocess.pixels`` returned."""
        return self._session.run(batch_for(self._session, self._preprocess, batch))


def prove_stage(
    reference: Remembered, model: OnnxModel, name: str, batches: Sequence[Batch], tolerances: Mapping[str, Tolerance]
) -> tuple[Parity, ...]:
    """Compare an ONNX stage with Keras, ONNX Runtime's optimizations off and on. Errors as ``compare`` and ``check``.

    ``tolerances`` names every output of the model, in order; each is judged by itself. With the optimizations on, which
    is how devices run the model, all ``batches`` count. Without them INT8 and FP16 take several times as long, so that
    run is judged on the first batches; if these fail, which one class can cause by chance, all batches decide.
    """
    few = batches if set(tolerances.values()).issubset(FLOAT_STAGES) else batches[:FEW_BATCHES]
    try:
        plain = _proved(reference, model, name, few, tolerances, optimized=False)
    except VerificationError as error:
        if error.code != "parity" or len(few) == len(batches):
            raise
        plain = _proved(reference, model, name, batches, tolerances, optimized=False)
    return plain + _proved(reference, model, name, batches, tolerances, optimized=True)


def _proved(
    reference: Remembered,
    model: OnnxModel,
    name: str,
    batches: Sequence[Batch],
    tolerances: Mapping[str, Tolerance],
    *,
    optimized: bool,
) -> tuple[Parity, ...]:
    """Compare and judge every output of a stage, optimizations on or off."""
    stage = Remembered(open_session(model, name=name, optimize=optimized, exact=True))
    stage.finish(batches)  # a session holds two or three times the weights, and what follows may need as much
    release_memory()
    parities = []
    for index, (output, tolerance) in enumerate(tolerances.items()):
        left, right = (Picked(runner, output) if index else runner for runner in (reference, stage))
        other = output if index else ""
        parity = compare(left, right, batches, stage=name, output=other, optimized=optimized)
        exact = partial(reference.exact, output, batches) if tolerance in FLOAT_STAGES else None
        _judge(parity, tolerance, (left, right), batches, exact)
        parities.append(parity)
    return tuple(parities)


def _judge(
    parity: Parity,
    tolerance: Tolerance,
    runners: tuple[Runner, Runner],
    batches: Sequence[Batch],
    exact: Callable[[], NDArray[np.float64] | None] | None,
) -> None:
    """Check a comparison; where it fails, judge it by the errors of the model's own float32 against ``exact``."""
    try:
        check(parity, tolerance)
    except VerificationError:
        right = None if exact is None else exact()
        if right is None:
            raise
        reference, candidate = (np.concatenate([runner.run(batch) for batch in batches]) for runner in runners)
        check(parity, tolerance.widened(rounding_of(reference, right).largest, parity))
        check_errors(parity, reference, candidate, right)


def tolerance_for(task: str, precision: str, *, trained: bool) -> Tolerance:
    """Return the tolerance of a stage. With random weights all classes are alike, so agreement is not judged."""
    if precision == "fp32":
        return EXACT_PROBABILITIES if task in ("classification", "sequence") else EXACT_FEATURES
    if task == "features":
        return FP16_FEATURES if precision == "fp16" else INT8_FEATURES
    if task != "classification":
        return FP16_OUTPUTS if precision == "fp16" else INT8_OUTPUTS
    if trained:
        return FP16_PROBABILITIES if precision == "fp16" else INT8_PROBABILITIES
    return FP16_SCORES if precision == "fp16" else INT8_SCORES


def tolerances(source: Source, precision: str) -> dict[str, Tolerance]:
    """Return the tolerance of each output of a stage, by its name."""
    return {output.name: tolerance_for(output.task, precision, trained=source.trained) for output in source.outputs}


def parity_batches(inputs: Inputs, synthetic: Batch, *, exact: bool) -> list[Batch]:
    """Return preprocessed images for parity: of the calibration set, else of the evaluation set, else ``synthetic``."""
    count = EXACT_IMAGES if exact else INT8_IMAGES
    images = inputs.calibration or inputs.evaluation
    if images is None:
        return uneven_batches([synthetic], count)
    return uneven_batches(inputs.batches(images.sample(min(count, len(images))), 8), count)


def uneven_batches(images: Iterable[Batch], count: int) -> list[Batch]:
    """Return up to ``count`` images as a batch of 1, for which engines have own kernels, and batches of at most 4."""
    pool = np.concatenate([batch for batch, _ in zip(images, range(-(-count // 8)), strict=False)])[:count]
    size = batch_that_fits(_PARITY_BATCH, math.prod(pool.shape[1:3]))
    return [pool[:1], *(pool[start : start + size] for start in range(1, len(pool), size))]


class _Recorder:
    """A runner that keeps its ``outputs``, so that evaluating and comparing take one run."""

    def __init__(self, runner: Runner) -> None:
        self.name, self._runner = runner.name, runner
        self.outputs: list[Batch] = []

    def run(self, batch: Batch) -> Batch:
        """Return the outputs."""
        self.outputs.append(self._runner.run(batch))
        return self.outputs[-1]


def measure_accuracy(
    runners: Iterable[Runner], inputs: Inputs, on_progress: OnProgress, threshold: float | None = None
) -> tuple[tuple[Accuracy, ...], tuple[Comparison, ...]]:
    """Evaluate each runner on the evaluation images, and compare each but the first with the first.

    ``threshold`` is as for ``judge_paired``. Both results are empty without evaluation images, the first one also for
    tasks without one class a picture. ``runners`` may be a generator: then one runner is in memory at a time, and the
    outputs of two, 4 kB an image for 1,000 classes.
    """
    images = inputs.evaluation
    if images is None:
        return (), ()
    size = batch_that_fits(EVALUATION_BATCH, area_of(inputs.preprocess))
    if inputs.task == "sequence":
        return _read_texts(runners, images, inputs, size, on_progress)
    if inputs.task != "classification":
        return (), _compare_outputs(runners, images, inputs, size, on_progress)
    accuracies: list[Accuracy] = []
    comparisons: list[Comparison] = []
    reference = None
    for runner in runners:
        recorder = _Recorder(runner)
        batches = inputs.batches(images, size)
        accuracies.append(evaluate(recorder, batches, images.labels, on_progress=on_progress, total=len(images)))
        outputs = np.concatenate(recorder.outputs)
        if reference is None:
            reference = outputs
        else:
            names = (accuracies[0].runner, runner.name)
            comparisons.append(judge_paired(reference, outputs, images.labels, names=names, threshold=threshold))
    return tuple(accuracies), tuple(comparisons)


def _read_texts(
    runners: Iterable[Runner], images: ImageSet, inputs: Inputs, size: int, on_progress: OnProgress
) -> tuple[tuple[Accuracy, ...], tuple[Comparison, ...]]:
    """Evaluate each runner by whole texts, and compare each but the first with the first."""
    accuracies: list[Accuracy] = []
    comparisons: list[Comparison] = []
    output, labels = inputs.output, images.labels
    assert labels is not None  # gather() has seen to it
    known = {text: number for number, text in enumerate(output.truths)}
    reference = None
    for runner in runners:
        recorder = _Recorder(runner)
        batches = images.batches(inputs.preprocess, size)
        accuracies.append(evaluate_texts(recorder, batches, labels, output, known, on_progress=on_progress))
        outputs = np.concatenate([part.reshape(len(part), -1) for part in recorder.outputs])
        if reference is None:
            reference = outputs
        else:
            names = (accuracies[0].runner, runner.name)
            comparisons.append(judge_paired(reference, outputs, labels, classes=False, names=names, output=output))
    return tuple(accuracies), tuple(comparisons)


def _compare_outputs(
    runners: Iterable[Runner], images: ImageSet, inputs: Inputs, size: int, on_progress: OnProgress
) -> tuple[Comparison, ...]:
    """Compare each runner but the first with the first, by the measure of the task; ``size`` images in a batch."""
    comparisons, reference = [], None
    for runner in runners:
        batches = inputs.batches(images, size)
        if reference is None:
            about: dict[str, Any] = {"output": inputs.output, "total": len(images)}
            reference = record_reference(runner, batches, classes=False, on_progress=on_progress, **about)
        else:
            comparisons.append(compare_with(reference, runner, batches, on_progress=on_progress))
    return tuple(comparisons)


def measure_latency(runners: Sequence[Runner], batch: NDArray[Any], on_progress: OnProgress) -> list[float]:
    """Return the median milliseconds of ``batch`` in each runner, the runs interleaved: noise affects all alike."""
    return [statistics.median(times) for times in latency_samples(runners, batch, on_progress)]


def latency_samples(runners: Sequence[Runner], batch: NDArray[Any], on_progress: OnProgress) -> list[list[float]]:
    """Return the milliseconds of each run of ``batch`` in each runner, the runs interleaved."""
    times: list[list[float]] = [[] for _ in runners]
    rounds = _WARM_UP + _LATENCY_ROUNDS
    for turn in range(rounds):
        for index, runner in enumerate(runners):
            start = time.perf_counter()
            runner.run(batch)
            if turn >= _WARM_UP:
                times[index].append(1000 * (time.perf_counter() - start))
        on_progress(Progress("latency", turn + 1, rounds))
    return times


def time_stages(
    runners: Sequence[Runner], sizes: Sequence[int], image: NDArray[Any], inputs: Inputs, on_progress: OnProgress
) -> tuple[Timing, ...]:
    """Time one decoded sample, ``image``, in each runner; ``sizes`` are those of their files in bytes."""
    from_pixels = [FromPixels(runner, inputs.preprocess) for runner in runners]
    times = latency_samples(from_pixels, image, on_progress)
    return tuple(
        Timing(runner.name, size, tuple(samples)) for runner, size, samples in zip(runners, sizes, times, strict=True)
    )


def closing_rows(
    timings: Sequence[Timing],
    accuracies: Sequence[Accuracy],
    comparisons: Sequence[Comparison],
    classes: int | None,
) -> tuple[TableRow, ...]:
    """Return the rows of the closing table, Keras first; without top-5 for ten ``classes`` or fewer."""
    figures = {comparison.candidate: comparison.figures for comparison in comparisons}
    rows = []
    for timing, accuracy in zip(timings, accuracies or (None,) * len(timings), strict=True):
        top5 = accuracy.told_top5(classes) if accuracy else None
        own = accuracy.figures if accuracy else ()
        shares = (accuracy.top1, top5, accuracy.agreement(accuracies[0])) if accuracy and not own else (None,) * 3
        row = TableRow(timing.runner, timing.size_bytes, statistics.median(timing.milliseconds), *shares)
        rows.append(replace(row, figures=figures.get(timing.runner, own)))
    return tuple(rows)


def conclude(
    options: ExportOptions,
    lowered: Lowered,
    accuracies: Sequence[Accuracy],
    comparisons: Sequence[Comparison],
    classes: int | None,
) -> Conclusions:
    """Return the loss of each model, the promises and warnings. Errors as :func:`keep_promises`."""
    kept = keep_promises(options, comparisons, lowered.selection, lowered.noise, lowered.evidence.recipe)
    warnings, domain = warnings_about(accuracies, classes), lowered.evidence.domain
    if domain is not None and domain.warns:
        warnings += (domain.sentence,)
    elif domain is not None:
        kept = kept.plus(domain.sentence)
    return replace(kept, warnings=warnings).plus(*lowered.sentences)
