"""Measure each stage beside Keras on the same images, judge it, and time the stages in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.batch_size import EVALUATION_BATCH, batch_that_fits
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.result import TableRow
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import Accuracy, ManyRunner, ModelOutput, OnProgress, Parity, Progress, Runner
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.engines.session import batch_for, session_from
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.verify import (
    EXACT_FEATURES,
    EXACT_PROBABILITIES,
    FP16_FEATURES,
    FP16_PROBABILITIES,
    FP16_SCORES,
    INT8_FEATURES,
    INT8_PROBABILITIES,
    INT8_SCORES,
    Comparison,
    Tolerance,
    check,
    compare,
    evaluate,
    judge_paired,
)

EXACT_IMAGES, INT8_IMAGES = 8, 64
"""Float stages differ by rounding only, which few images show; a share of agreement needs more."""
_LATENCY_ROUNDS, _WARM_UP = 15, 3

Batch = NDArray[np.float32]


class Remembered:
    """A runner whose outputs are computed once for each batch: the reference is compared with several candidates."""

    def __init__(self, runner: ManyRunner) -> None:
        self.name = runner.name
        self._runner = runner
        self._known: dict[int, tuple[Batch, dict[str, Batch]]] = {}

    def run(self, batch: Batch) -> Batch:
        """Return the first output; the same array object gives the same result again."""
        return next(iter(self.run_all(batch).values()))

    def run_all(self, batch: Batch) -> dict[str, Batch]:
        """Return every output by its name."""
        if id(batch) not in self._known:
            self._known[id(batch)] = batch, self._runner.run_all(batch)  # holding the batch keeps its id unique
        return self._known[id(batch)][1]


class Picked:
    """One output of a runner that has several, as a runner of its own."""

    def __init__(self, runner: ManyRunner, output: str) -> None:
        self.name = f"{output} of {runner.name}"
        self._runner, self._output = runner, output

    def run(self, batch: Batch) -> Batch:
        """Return the output."""
        return self._runner.run_all(batch)[self._output]


class FromPixels:
    """A runner of pictures: scaling them is counted to an engine that needs it, not to one that takes their bytes."""

    def __init__(self, runner: Runner, preprocess: Preprocess) -> None:
        self.name = runner.name
        self._session, self._preprocess = session_from(runner), preprocess

    def run(self, batch: NDArray[Any]) -> Batch:
        """Return the first output for (n, h, w, c) uint8."""
        return self._session.run(batch_for(self._session, self._preprocess, batch))


def prove_stage(
    reference: Remembered, model: OnnxModel, name: str, batches: Sequence[Batch], tolerances: Mapping[str, Tolerance]
) -> tuple[Parity, ...]:
    """Compare an ONNX stage with Keras, ONNX Runtime's graph optimizations off and on, and judge both.

    ``tolerances`` names every output; of several each is judged by itself, the first under the name of the stage.

    Raises
    ------
    VerificationError
        ``parity``, ``non-finite-output``, ``output-shape``.
    """
    parities = []
    for optimize in (False, True):
        session = OrtSession(model.to_bytes(), name=name, optimize=optimize, exact=True)
        for index, (output, tolerance) in enumerate(tolerances.items()):
            ours: Runner = Picked(session, output) if index else session
            parity = compare(
                Picked(reference, output) if index else reference,
                ours,
                batches,
                stage=name,
                output=output if index else "",
                optimized=optimize,
            )
            check(parity, tolerance)
            parities.append(parity)
            del ours
        del session  # two of one model would take its weights three or four times
    return tuple(parities)


def tolerance_for(task: str, precision: str, *, trained: bool) -> Tolerance:
    """Return what a stage is held to. Random weights tell no classes apart: agreement means nothing then."""
    if precision == "fp32":
        return EXACT_FEATURES if task == "features" else EXACT_PROBABILITIES
    if task == "features":
        return FP16_FEATURES if precision == "fp16" else INT8_FEATURES
    if trained:
        return FP16_PROBABILITIES if precision == "fp16" else INT8_PROBABILITIES
    return FP16_SCORES if precision == "fp16" else INT8_SCORES


def tolerances(outputs: Sequence[ModelOutput], precision: str, *, trained: bool) -> dict[str, Tolerance]:
    """Return what each output of a stage is held to, by its name."""
    return {output.name: tolerance_for(output.task, precision, trained=trained) for output in outputs}


def uneven_batches(images: Iterable[Batch], count: int) -> list[Batch]:
    """Return up to ``count`` images as a batch of 1 and others of at most 8: engines have paths of their own for 1."""
    pool = np.concatenate([batch for batch, _ in zip(images, range(-(-count // 8)), strict=False)])[:count]
    size = batch_that_fits(8, *pool.shape[1:3])
    return [pool[:1], *(pool[start : start + size] for start in range(1, len(pool), size))]


class _Recorder:
    """A runner that keeps what it gave, so that evaluating and comparing cost one run."""

    def __init__(self, runner: Runner) -> None:
        self.name = runner.name
        self._runner = runner
        self._kept: list[Batch] = []

    def run(self, batch: Batch) -> Batch:
        """Return the outputs."""
        self._kept.append(self._runner.run(batch))
        return self._kept[-1]

    @property
    def outputs(self) -> Batch:
        """All outputs so far, (images, classes)."""
        return np.concatenate(self._kept)


def measure_accuracy(
    runners: Iterable[Runner], inputs: Inputs, on_progress: OnProgress
) -> tuple[tuple[Accuracy, ...], tuple[Comparison, ...]]:
    """Evaluate each runner on the evaluation images, and compare each but the first with the first.

    Nothing where there are no images. ``runners`` may make each as it is asked for, so that one is in memory at a time,
    and the outputs of two, 4 kB an image for 1,000 classes.
    """
    images = inputs.evaluation
    if images is None:
        return (), ()
    accuracies: list[Accuracy] = []
    comparisons: list[Comparison] = []
    reference = None
    for runner in runners:
        recorder = _Recorder(runner)
        size = batch_that_fits(EVALUATION_BATCH, inputs.preprocess.height, inputs.preprocess.width)
        batches = images.batches(inputs.preprocess, size)
        accuracies.append(evaluate(recorder, batches, images.labels, on_progress=on_progress, total=len(images)))
        if reference is None:
            reference = recorder.outputs
        else:
            names = (accuracies[0].runner, runner.name)
            comparisons.append(judge_paired(reference, recorder.outputs, images.labels, names=names))
    return tuple(accuracies), tuple(comparisons)


def measure_latency(runners: Sequence[Runner], batch: NDArray[Any], on_progress: OnProgress) -> list[float]:
    """Return the median milliseconds of one image in each runner, measured in turn so that noise hits all alike."""
    return [statistics.median(each) for each in latency_samples(runners, batch, on_progress)]


def latency_samples(runners: Sequence[Runner], batch: NDArray[Any], on_progress: OnProgress) -> list[list[float]]:
    """Return the milliseconds of each run of one image in each runner, in turn."""
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


def closing_rows(
    runners: Sequence[Runner], sizes: Sequence[int], latencies: Sequence[float], accuracies: Sequence[Accuracy]
) -> tuple[TableRow, ...]:
    """Put the figures together, Keras first."""
    rows = tuple(
        TableRow(runner.name, size, latency, None, None, None)
        for runner, size, latency in zip(runners, sizes, latencies, strict=True)
    )
    if not accuracies:
        return rows
    return tuple(
        replace(row, top1=found.top1, top5=found.top5, agreement=found.agreement(accuracies[0]))
        for row, found in zip(rows, accuracies, strict=True)
    )


def pictures(inputs: Inputs, count: int, golden: Batch) -> Iterator[Batch]:
    """Yield images for parity: of the calibration set, else of the evaluation set, else made-up ones."""
    images = inputs.calibration or inputs.evaluation
    if images is None:
        yield golden
        return
    yield from images.sample(min(count, len(images))).batches(inputs.preprocess, 8)
