"""A candidate compared with a reference on the same images, class by class, with confidence intervals.

The reference runs once and its outputs are kept, 4 kB an image with 1,000 classes; any number of candidates is then
compared with it, each in one pass of its own with one batch in memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.results import (
    Accuracy,
    ComparisonRecord,
    Figure,
    ModelOutput,
    OnProgress,
    Runner,
    ScoreShift,
    decibels,
    rounded_figures,
)
from xxdeploy.verify.outputs import (
    are_probabilities,
    check_same_values,
    cosines,
    kl_divergence,
    labels_of_batch,
    no_images,
    run_batches,
)
from xxdeploy.verify.scores import ScoreTally
from xxdeploy.verify.statistics import Interval, PairedChange, change_from_counts, wilson_interval
from xxdeploy.verify.strings import TextTally
from xxdeploy.verify.tallies import tally_for


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The outputs of a reference on a set of images.

    ``outputs`` is (images, classes) or (images, features) float32; ``classes`` tells which of the two; ``checksum`` is
    that of the images as preprocessed, so that a candidate cannot be compared on others by mistake. ``threshold`` is as
    for :class:`~xxdeploy.verify.scores.ScoreTally`; ``output`` describes pictures, masks or values.
    """

    name: str
    outputs: NDArray[np.float32] = field(repr=False)
    classes: bool
    checksum: int
    threshold: float | None = None
    output: ModelOutput | None = None

    @property
    def images(self) -> int:
        """Return the number of images."""
        return len(self.outputs)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of a candidate from a reference on the same images.

    ``sqnr_db`` is ``10 log10(sum reference^2 / sum (reference - candidate)^2)`` over all outputs, 200 for no difference
    and None for outputs of zero; ``cosine`` the lowest of any image. For classifiers ``agreeing`` counts the images
    with the same class (else None), and ``kl_mean`` is the mean of KL(reference || candidate) in nats (None where the
    outputs are no probabilities). With labels, ``right`` counts the images that each gets right, and ``change`` holds
    the gains, the losses, their 95 % interval and McNemar's p-value (else None). ``scores`` is the shift of the scores
    of a classifier whose outputs lie in 0..1 (else None). ``figures`` and ``loss`` are those of the tasks with a
    measure of their own (:func:`~xxdeploy.verify.tallies.tally_for`), else empty and None.
    """

    reference: str
    candidate: str
    images: int
    sqnr_db: float | None
    cosine: float
    agreeing: int | None
    kl_mean: float | None
    right: tuple[int, int] | None
    change: PairedChange | None
    scores: ScoreShift | None = None
    figures: tuple[Figure, ...] = ()
    loss: float | None = None

    @property
    def agreement(self) -> float | None:
        """Return the share of images (0..1) with the same class; None for features."""
        return None if self.agreeing is None else self.agreeing / self.images

    @property
    def agreement_interval(self) -> Interval | None:
        """Return the 95 % Wilson interval of :attr:`agreement`; None for features."""
        return None if self.agreeing is None else wilson_interval(self.agreeing, self.images)

    @property
    def top1(self) -> tuple[float, float] | None:
        """Return top-1 (0..1) of the reference and of the candidate; None without labels."""
        return None if self.right is None else (self.right[0] / self.images, self.right[1] / self.images)

    @property
    def record(self) -> ComparisonRecord:
        """Return the figures for a manifest, rounded to what repeats."""
        change, top1 = self.change, self.top1
        return ComparisonRecord(
            reference=self.reference,
            candidate=self.candidate,
            images=self.images,
            sqnr_db=None if self.sqnr_db is None else round(self.sqnr_db, 1),
            cosine=round(self.cosine, 4),
            agreement=None if self.agreement is None else round(self.agreement, 4),
            agreement_interval=_rounded(self.agreement_interval),
            kl_nats=None if self.kl_mean is None else float(f"{self.kl_mean:.3g}"),
            top1=None if top1 is None else (round(top1[0], 4), round(top1[1], 4)),
            change=None if change is None else round(change.change, 4),
            change_interval=None if change is None else _rounded(change.interval),
            gained=None if change is None else change.gained,
            lost=None if change is None else change.lost,
            mcnemar_p=None if change is None else float(f"{change.p_value:.3g}"),
            scores=self.scores,
            figures=rounded_figures(self.figures),
        )

    @property
    def sentence(self) -> str:
        """Return the figures on one line, in percent, with 95 % intervals."""
        told_below = ("right_texts",)  # with the loss
        parts = [figure.sentence for figure in self.figures if figure.name not in told_below]
        if self.top1 is not None and (change := self.change) is not None:
            before, after = (100 * share for share in self.top1)
            low, high = -100 * change.interval.high, -100 * change.interval.low
            what = "top-1" if not self.figures else "right texts"
            parts.append(
                f"{what} {before:.1f} -> {after:.1f} %, lost {_number(-100 * change.change)} points "
                f"(95 % CI {_number(low)} to {_number(high)}, McNemar p {_probability(change.p_value)})"
            )
        if self.agreement is not None and (interval := self.agreement_interval) is not None and not self.figures:
            parts.append(
                f"same class on {100 * self.agreement:.1f} % of the images "
                f"(95 % CI {100 * interval.low:.1f} to {100 * interval.high:.1f})"
            )
        if self.kl_mean is not None:
            parts.append(f"KL {self.kl_mean:.2g}" if self.kl_mean < 0.001 else f"KL {self.kl_mean:.3f}")
        if self.agreement is None and not self.figures:
            sqnr = "no signal" if self.sqnr_db is None else f"SQNR {self.sqnr_db:.1f} dB"
            parts.append(f"{sqnr}, lowest cosine {self.cosine:.4f}")
        return f"{', '.join(parts)} ({self.images} image{'s' if self.images != 1 else ''})"

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return the name with :attr:`sentence`, and with the shift of the scores; those of float32 do not move."""
        moved = () if self.scores is None or self.candidate == "onnx-fp32" else (self.scores.sentence,)
        return tuple(f"{self.candidate}: {sentence}" for sentence in (self.sentence, *moved))


def record_reference(
    runner: Runner,
    batches: Iterable[NDArray[np.float32]],
    *,
    classes: bool = True,
    threshold: float | None = None,
    output: ModelOutput | None = None,
    on_progress: OnProgress | None = None,
    total: int | None = None,
) -> Reference:
    """Run ``runner`` over preprocessed batches (n, h, w, c) float32 and keep its outputs; errors as ``run_batches``.

    ``classes`` tells whether an output is a score for each class, or features; ``threshold`` is the score (0..1) above
    which the reference decides, see :class:`~xxdeploy.verify.scores.ScoreTally`. ``output`` names the task.
    """
    parts: list[NDArray[np.float32]] = []
    checksum, purpose = 0, f"compare with {runner.name}"
    for batch, outputs in run_batches(runner, batches, purpose, "reference", on_progress, total):
        parts.append(outputs)
        checksum = _checksum(batch, checksum)
    return Reference(runner.name, np.concatenate(parts), classes, checksum, threshold, output)


def compare_with(
    reference: Reference,
    runner: Runner,
    batches: Iterable[NDArray[np.float32]],
    labels: Sequence[int] | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> Comparison:
    """Run a candidate over the reference's images, in the same order and in batches of any size, and compare.

    ``labels`` holds the class index of each image, or is None.

    Raises
    ------
    UsageError
        ``label-range``: a label is no class of the model.
    VerificationError
        ``non-finite-output``, and ``output-shape``: also where the two have different numbers of outputs.
    ValueError
        Not the images of the reference, not as many labels as images, or labels for features.
    """
    tally = _Tally(reference, labels)
    checksum, purpose = 0, f"compare with {reference.name}"
    for batch, outputs in run_batches(runner, batches, purpose, "compare", on_progress, reference.images):
        tally.add(outputs, runner.name)
        checksum = _checksum(batch, checksum)
    if checksum != reference.checksum:
        raise ValueError(f"{runner.name} did not see the images of {reference.name}: other images, order or pixels")
    return tally.comparison(runner.name)


def judge_paired(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    labels: Sequence[int] | None = None,
    *,
    classes: bool = True,
    names: tuple[str, str] = ("reference", "candidate"),
    threshold: float | None = None,
    output: ModelOutput | None = None,
) -> Comparison:
    """Compare outputs (images, values) float32 that were computed before; see :func:`compare_with`."""
    if not len(reference):
        raise no_images(f"compare with {names[0]}")
    tally = _Tally(Reference(names[0], reference, classes, 0, threshold, output), labels)
    tally.add(candidate, names[1])
    return tally.comparison(names[1])


class _Tally:
    """Running sums over images: memory does not grow with their number."""

    def __init__(self, reference: Reference, labels: Sequence[int] | None) -> None:
        if labels is not None and len(labels) != reference.images:
            raise ValueError(f"{len(labels)} labels for {reference.images} images")
        self._task = tally_for(reference.output, labels)
        if labels is not None and not reference.classes and not isinstance(self._task, TextTally):
            raise ValueError("features have no classes that labels could name")
        self._reference, self._labels = reference, labels
        self.images = self._agreeing = self._gained = self._lost = self._right = 0
        self._signal = self._noise = self._kl = 0.0
        self._cosine, self._probabilities = 1.0, reference.classes
        self._scores = ScoreTally(reference.threshold)

    def add(self, candidate: NDArray[np.float32], name: str) -> None:
        """Count the next rows of a candidate, (n, values)."""
        expected = self._reference.outputs[self.images : self.images + len(candidate)]
        if len(expected) != len(candidate):
            raise ValueError(f"{name} gave outputs for more than the {self._reference.images} images of the reference")
        check_same_values(self._reference.name, name, (expected.shape[1], candidate.shape[1]))
        left = expected.astype(np.float64)
        self._signal += float(np.square(left).sum())
        self._noise += float(np.square(left - candidate).sum())
        self._cosine = min(self._cosine, float(cosines(expected, candidate).min()))
        if self._reference.classes:
            self._add_classes(expected, candidate)
        if self._task is not None:
            self._task.add(expected, candidate)
        if isinstance(self._task, TextTally) and self._reference.output is not None:
            self._add_steps(expected, candidate, *self._reference.output.shape)
        self.images += len(candidate)

    def _add_classes(self, expected: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        before, after = expected.argmax(axis=1), candidate.argmax(axis=1)
        self._agreeing += int(np.count_nonzero(before == after))
        self._probabilities &= are_probabilities(expected) and are_probabilities(candidate)
        if self._probabilities:
            self._kl += float(kl_divergence(expected, candidate).sum())
        truth = None
        if self._labels is not None:
            truth = labels_of_batch(self._labels, self.images, len(candidate), candidate.shape[1])
            was, now = before == truth, after == truth
            self._right += int(np.count_nonzero(was))
            self._gained += int(np.count_nonzero(now & ~was))
            self._lost += int(np.count_nonzero(was & ~now))
        self._scores.add(expected, candidate, truth)

    def _add_steps(self, expected: NDArray[np.float32], candidate: NDArray[np.float32], steps: int, width: int) -> None:
        """Add the mean divergence of the steps of each picture."""
        before, after = expected.reshape(-1, width), candidate.reshape(-1, width)
        self._probabilities = are_probabilities(before) and are_probabilities(after)
        if self._probabilities:
            self._kl += float(kl_divergence(before, after).sum()) / steps

    def comparison(self, name: str) -> Comparison:
        """Return the figures, once every image is counted."""
        if self.images != self._reference.images:
            raise ValueError(f"{name} saw {self.images} images, {self._reference.name} {self._reference.images}")
        labeled, texts = self._labels is not None, self._task if isinstance(self._task, TextTally) else None
        if texts is not None:
            self._agreeing = texts.agreeing
            self._right, self._gained, self._lost = texts.changes or (0, 0, 0)
        return Comparison(
            reference=self._reference.name,
            candidate=name,
            images=self.images,
            sqnr_db=decibels(self._signal, self._noise),
            cosine=self._cosine,
            agreeing=self._agreeing if self._reference.classes or texts is not None else None,
            kl_mean=self._kl / self.images if self._probabilities else None,
            right=(self._right, self._right + self._gained - self._lost) if labeled else None,
            change=change_from_counts(self._gained, self._lost, self.images) if labeled else None,
            scores=self._scores.shift(),
            figures=() if self._task is None else self._task.figures(),
            loss=None if self._task is None else self._task.loss,
        )


def _checksum(batch: NDArray[np.float32], before: int) -> int:
    """Checksum of all images so far: the same however they are cut into batches. 1 GB/s or more."""
    return zlib.crc32(np.ascontiguousarray(batch).reshape(-1).view(np.uint8).data, before)


def _rounded(interval: Interval | None) -> tuple[float, float] | None:
    return None if interval is None else (round(interval.low, 4), round(interval.high, 4))


def _number(value: float) -> str:
    """Write points; zero is never -0.0."""
    return f"{round(value, 1) + 0.0:.1f}"


def _probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.01 else f"{value:.2f}"


def evaluate(
    runner: Runner,
    batches: Iterable[NDArray[Any]],
    labels: Sequence[int] | None,
    *,
    on_progress: OnProgress | None = None,
    total: int | None = None,
) -> Accuracy:
    """Run a classifier over images, one batch in memory, and count.

    ``batches`` are (n, h, w, c) float32, or uint8 for a runner that takes pixels, in the order of ``labels``, the class
    index of each image; without labels only the runner's classes are recorded. ``total`` images are announced to
    ``on_progress``, by default the number of labels.

    Equal scores are ranked by class index, the lowest first, so the figures are the same on every machine. With five
    classes or fewer, top-5 counts every image.

    Raises
    ------
    UsageError
        ``no-images``; ``label-range``: a label is no class of this model.
    VerificationError
        ``non-finite-output`` and ``output-shape``.
    ValueError
        The number of labels is not that of the images.
    """
    total = len(labels) if labels is not None and total is None else total
    classes: list[int] = []
    top1 = top5 = 0
    purpose = f"evaluate {runner.name}"
    for batch, scores in run_batches(runner, batches, purpose, "accuracy", on_progress, total):
        # Stable: of equal scores the lowest index comes first.
        ranks = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        if labels is not None:
            truth = labels_of_batch(labels, len(classes), len(batch), scores.shape[1])
            top1 += int(np.count_nonzero(ranks[:, 0] == truth))
            top5 += int(np.count_nonzero((ranks == truth[:, None]).any(axis=1)))
        classes.extend(int(best) for best in ranks[:, 0])
    if labels is None:
        return Accuracy(runner.name, None, None, tuple(classes))
    if len(labels) != len(classes):
        raise ValueError(f"{len(labels)} labels for {len(classes)} images")
    return Accuracy(runner.name, top1 / len(classes), top5 / len(classes), tuple(classes))
