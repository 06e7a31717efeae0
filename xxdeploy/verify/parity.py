"""Measure the distance of two runners on the same images, and judge it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import VerificationError
from xxdeploy.results import ManyRunner, Parity, Runner
from xxdeploy.verify.outputs import are_probabilities, check_same_values, cosines, no_images, run_finite, scores

ROUNDING_FACTOR, MOST_ROUNDING = 4.0, 1e-3
SYSTEMATIC_FACTOR, ENOUGH_VALUES = 6.0, 64
"""The mean error of a channel may be so many times that of Keras, if it is the mean of so many values: the mean of
fewer rounding errors says little."""
_MIXED = 2e-3
"""A picture may change by this share of the largest value with the size of its batch, since kernels round otherwise."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How far a model's own float32 is from float64, on some images.

    ``largest`` is the largest error of a value; ``logarithm`` that of a probability's logarithm, which is the error of
    the logits, None for other outputs. ``systematic`` is the largest mean error of a channel plus the standard
    deviation of such a mean, None if a channel has fewer than ``ENOUGH_VALUES`` values: rounding errors have both signs
    and mostly cancel in a mean, a wrong constant shifts each value alike.
    """

    largest: float
    logarithm: float | None
    systematic: float | None


def rounding_of(rounded: NDArray[np.float32], exact: NDArray[np.float64]) -> Rounding:
    """Measure outputs (n, ...) in float32 against the same in float64.

    Of probabilities the logarithms are measured, too: an error of the logits moves a probability by at most a quarter
    of it, and by next to nothing on images that the model is sure of, which may be all of these.
    """
    error = rounded.astype(np.float64) - exact
    logarithm, mean = _logarithm_error(rounded, exact), _mean_error(rounded, exact)
    spread = float(np.sqrt(np.square(error).mean() / (error.size / error.shape[-1])))
    return Rounding(
        max(float(np.abs(error).max()), (logarithm or 0.0) / 4),
        logarithm,
        None if mean is None else mean + spread,
    )


def _logarithm_error(outputs: NDArray[np.float32], exact: NDArray[np.float64]) -> float | None:
    """Return the largest error of a probability's logarithm; None for other outputs, and if all underflow."""
    seen = (outputs > _VISIBLE) & (exact > _VISIBLE)
    if exact.ndim != 2 or not are_probabilities(exact.astype(np.float32)) or not seen.any():
        return None
    return float(np.abs(np.log(outputs[seen].astype(np.float64) / exact[seen])).max())


def _mean_error(outputs: NDArray[np.float32], exact: NDArray[np.float64]) -> float | None:
    """Return the largest mean error of a channel (last axis); None if it has fewer than ``ENOUGH_VALUES`` values."""
    if exact.size < ENOUGH_VALUES * exact.shape[-1]:
        return None
    return float(np.abs((outputs.astype(np.float64) - exact).mean(axis=tuple(range(exact.ndim - 1)))).max())


_VISIBLE = 1e-30
"""Probabilities below this lose digits in float32."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest difference allowed for a stage. A limit that is None is not judged.

    ``max_abs``, ``max_rel`` and ``mean_rel`` are the largest allowed, ``cosine``, ``scores`` and ``agreement`` (0..1)
    the smallest; see `xxdeploy.results.Parity` for what each measures. ``remedy`` is the hint of the error.
    """

    remedy: str
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None
    agreement: float | None = None
    scores: float | None = None
    mean_rel: float | None = None

    def widened(self, rounding: float, parity: Parity) -> Tolerance:
        """Return the tolerance for a model whose float32 itself is off by ``rounding`` from float64.

        Its limits are then at least ``ROUNDING_FACTOR`` times that: the candidate rounds in another order than the
        reference, and each may be off by as much, on other images by more. They are never above ``MOST_ROUNDING``,
        where the errors of a wrong conversion begin: a model that jumps (rounds, takes an argmax) stays strict.
        """
        largest = parity.max_abs / parity.max_rel if parity.max_rel else 1.0
        wide, relative = (min(ROUNDING_FACTOR * error, MOST_ROUNDING) for error in (rounding, rounding / largest))
        return replace(
            self,
            max_abs=None if self.max_abs is None else max(self.max_abs, wide),
            max_rel=None if self.max_rel is None else max(self.max_rel, relative),
        )

    def __post_init__(self) -> None:
        limits = (self.max_abs, self.max_rel, self.cosine, self.agreement, self.scores, self.mean_rel)
        given = [limit for limit in limits if limit is not None]
        if not given:
            raise ValueError("a tolerance that judges nothing would pass everything")
        if not all(map(math.isfinite, given)):
            raise ValueError(f"limits must be finite: {limits}")


_EXACT = "the conversion is at fault, not your data: report it with the model's name and options"
_INT8 = "calibrate on images like those it will see, try more --samples or --method minmax"
_INT8_RANDOM = "random weights may magnify rounding errors: give trained weights with --weights, or another --seed"

EXACT_PROBABILITIES = Tolerance(_EXACT, max_abs=1e-5)
"""Float stages with probabilities. Both sides compute in float32 and differ in the order of the sums only: 3e-6 for
MobileNetV2 on photographs. A wrong padding or epsilon shows above 1e-3."""

EXACT_FEATURES = Tolerance(_EXACT, max_rel=1e-4)
"""Float stages with features, which have no fixed scale: relative to the largest feature. The sums are as long as
those before a softmax, which would have squeezed the same difference."""

INT8_PROBABILITIES = Tolerance(_INT8, agreement=0.8)
"""INT8 against float: a lower bound for a sound quantization, not a promise (that is ``--max-drop``). Per-channel
min-max keeps 93 to 98 % of the classes on MobileNet and MobileNetV2, a broken quantization (per tensor) 7 to 35 %.
Cosine is not judged: one image whose class flips has a cosine near 0."""

INT8_FEATURES = Tolerance(_INT8, cosine=0.8)
"""INT8 against float where there are no classes to agree on."""

INT8_OUTPUTS = Tolerance(_INT8, mean_rel=0.1)
"""INT8 against float for pictures, masks and values: the mean error relative to the largest magnitude. Cosine is not
judged: a black picture, an empty mask and a number near 0 have any."""

INT8_SCORES = Tolerance(_INT8_RANDOM, scores=0.9)
"""INT8 against float for random weights, which tell no classes apart: the inputs of the softmax are compared.
Probabilities would depend on how large the scores happen to be: those of MobileNet all are 0.001, and where two classes
of ResNet101 are nearly equal the probabilities of a faithful copy (30 dB) have a cosine of 0.79. The worst of 27
networks has 0.998; a faithful copy of a network with eight filters and five classes has 0.92 on noise."""


_FP16 = "layers can stay in float32; give --calibration images like those it will see, so that their ranges are checked"

FP16_PROBABILITIES = Tolerance(_FP16, max_abs=0.15, agreement=0.9)
"""FP16 against float: 11 bits keep all but the closest decisions (99.6 % of 677 images for MobileNetV2). A class that
flips there was as probable as the next, so no probability may move far. An overflow gives NaN, and fails before."""

FP16_FEATURES = Tolerance(_FP16, cosine=0.99)
"""FP16 against float where there are no classes."""

FP16_OUTPUTS = Tolerance(_FP16, mean_rel=0.01)
"""FP16 against float for pictures, masks and values."""

FP16_SCORES = Tolerance(_FP16, scores=0.99)
"""FP16 against float for random weights."""


class _Sums:
    """Running sums over images: memory does not grow with their number."""

    def __init__(self) -> None:
        self.images = self.values = self.agreeing = 0
        self.max_abs = self.sum_abs = self.largest = 0.0
        self.cosine = 1.0
        self.scores: float | None = 1.0

    def add(self, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        """Count a batch of rows ``(n, values)``."""
        left, right = reference.astype(np.float64), candidate.astype(np.float64)
        difference = np.abs(left - right)
        self.images += left.shape[0]
        self.values += left.size
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.sum_abs += float(difference.sum())
        self.largest = max(self.largest, float(np.abs(left).max()))
        self.agreeing += int(np.count_nonzero(left.argmax(axis=1) == right.argmax(axis=1)))
        self.cosine = min(self.cosine, float(cosines(reference, candidate).min()))
        if self.scores is not None and are_probabilities(reference) and are_probabilities(candidate):
            self.scores = min(self.scores, float(cosines(scores(reference), scores(candidate)).min()))
        else:
            self.scores = None


def compare(
    reference: Runner,
    candidate: Runner,
    batches: Iterable[NDArray[np.float32]],
    *,
    stage: str | None = None,
    output: str = "",
    optimized: bool = True,
) -> Parity:
    """Run both on the same preprocessed batches (n, h, w, c) float32, one in memory, and measure their distance.

    ``stage`` (by default the candidate's name), ``output`` and ``optimized`` are kept in the result; see
    :class:`xxdeploy.results.Parity` for the measures. A tie for the best class goes to the lowest index, on both sides.

    Raises
    ------
    UsageError
        ``no-images``.
    VerificationError
        ``non-finite-output`` and ``output-shape``.
    """
    sums = _Sums()
    for batch in batches:
        if not len(batch):
            continue
        left, right = (run_finite(runner, batch, sums.images) for runner in (reference, candidate))
        check_same_values(reference.name, candidate.name, (left.shape[1], right.shape[1]))
        sums.add(left, right)
    if not sums.images:
        raise no_images(f"compare {candidate.name} with {reference.name}")
    relative_to_zero = math.inf if sums.max_abs else 0.0
    return Parity(
        reference=reference.name,
        stage=candidate.name if stage is None else stage,
        images=sums.images,
        max_abs=sums.max_abs,
        mean_abs=sums.sum_abs / sums.values,
        max_rel=sums.max_abs / sums.largest if sums.largest else relative_to_zero,
        cosine=sums.cosine,
        agreement=sums.agreeing / sums.images,
        scores=sums.scores,
        output=output,
        optimized=optimized,
    )


def check(parity: Parity, tolerance: Tolerance) -> None:
    """Raise ``VerificationError`` ``parity`` if a measure is outside its limit, or NaN; the message names each."""
    judged = (
        ("largest absolute difference", parity.max_abs, tolerance.max_abs, "at most"),
        ("largest relative difference", parity.max_rel, tolerance.max_rel, "at most"),
        ("mean relative difference", parity.mean_rel, tolerance.mean_rel, "at most"),
        ("lowest cosine", parity.cosine, tolerance.cosine, "at least"),
        ("top-1 agreement", parity.agreement, tolerance.agreement, "at least"),
        ("lowest cosine of scores", math.nan if parity.scores is None else parity.scores, tolerance.scores, "at least"),
    )
    outside = [
        f"{name} {value:.4g} ({word} {limit:.4g})"
        for name, value, limit, word in judged
        # Negated, so that NaN fails.
        if limit is not None and not (value <= limit if word == "at most" else value >= limit)
    ]
    if outside:
        raise VerificationError(
            f"{parity.candidate} does not match {parity.reference}: {', '.join(outside)}, on {parity.images} "
            f"image{'s' if parity.images != 1 else ''}",
            hint=tolerance.remedy,
            code="parity",
        )


def check_errors(
    parity: Parity, reference: NDArray[np.float32], candidate: NDArray[np.float32], exact: NDArray[np.float64]
) -> None:
    """Raise ``VerificationError`` ``parity`` if rounding does not explain the candidate's errors against float64.

    The arrays are the same outputs (n, ..., channels) of the three. A candidate within ``ROUNDING_FACTOR``
    times the reference's error from the reference is within once more of float64: so much the error of each logarithm
    may be. The mean error of each channel may be ``SYSTEMATIC_FACTOR`` times that of the reference.
    """
    rounding = rounding_of(reference, exact)
    judged = (
        ("logits", _logarithm_error(candidate, exact), rounding.logarithm, ROUNDING_FACTOR + 1),
        ("mean of a channel", _mean_error(candidate, exact), rounding.systematic, SYSTEMATIC_FACTOR),
    )
    outside = [
        f"error of the {name} {error:.3g} (at most {factor * own:.3g})"
        for name, error, own, factor in judged
        if error is not None and own is not None and not error <= factor * own
    ]
    if outside:
        raise VerificationError(
            f"{parity.candidate} does not match {parity.reference}: {', '.join(outside)}, on {parity.images} images",
            hint=_EXACT,
            code="parity",
        )


def check_independence(runner: ManyRunner, images: NDArray[np.float32]) -> None:
    """Raise ``VerificationError`` ``mixed-batch`` if the first of ``images`` (n, h, w, c) is answered by others, too.

    Keras and its conversion agree on such a model, and a device that runs one picture at a time gives other answers
    than the training saw. ``images`` has two pictures or more.
    """
    together, alone = runner.run_all(images), runner.run_all(images[:1])
    for name, values in alone.items():
        difference, largest = float(np.abs(together[name][:1] - values).max()), float(np.abs(values).max())
        if difference > _MIXED * largest:
            raise VerificationError(
                f"the answer for a picture depends on the other pictures of its batch: {name} differs by "
                f"{difference:.2g}, and its largest value is {largest:.2g}",
                hint="look in the model for an operation over the batch axis, such as a mean or a softmax with axis=0, "
                "or a normalization in training mode; give it the axes after the first",
                code="mixed-batch",
            )
