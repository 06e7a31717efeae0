"""The scores of two classifiers on the same images: the shift of the largest, calibration, and thresholds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError
from xxdeploy.results.scores import MatchingThreshold, ScoreShift

BINS = 15
THRESHOLD = 0.5
_EDGE = 1e-3
"""How far float32 sums may put a probability outside 0..1."""


class ScoreTally:
    """The scores of a reference and of a candidate, batch by batch: 16 bytes an image.

    It counts nothing once a batch holds a value outside 0..1: such outputs are not scores. ``threshold`` is the score
    above which the reference decides: for the second class of two, or for its top-1 class where there are more. None
    means 0.5 for one or two classes, and no decision for more.
    """

    def __init__(self, threshold: float | None = None) -> None:
        self._threshold = threshold
        self._scores = True
        self._before: list[NDArray[np.float32]] = []
        self._after: list[NDArray[np.float32]] = []
        self._right: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]] = []
        self._decisive: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    def add(
        self, expected: NDArray[np.float32], candidate: NDArray[np.float32], truth: NDArray[np.int64] | None
    ) -> None:
        """Count a batch of outputs (n, classes); ``truth`` is the class index of each image, (n,)."""
        self._scores &= all(
            bool((rows >= -_EDGE).all() and (rows <= 1 + _EDGE).all()) for rows in (expected, candidate)
        )
        if not self._scores:
            return
        expected, candidate = np.clip(expected, 0, 1), np.clip(candidate, 0, 1)
        self._before.append(expected.max(axis=1))
        self._after.append(candidate.max(axis=1))
        if truth is not None:
            self._right.append((expected.argmax(axis=1) == truth, candidate.argmax(axis=1) == truth))
        if expected.shape[1] <= 2:
            self._decisive.append((expected[:, -1], candidate[:, -1]))
        elif self._threshold is not None:
            self._decisive.append((self._before[-1], self._after[-1]))

    def shift(self) -> ScoreShift | None:
        """Return the figures, rounded to what repeats; None where the outputs are no scores."""
        if not self._scores or not self._before:
            return None
        before, after = np.concatenate(self._before), np.concatenate(self._after)
        moved = after.astype(np.float64) - before
        errors = None
        if self._right:
            right = [np.concatenate(column) for column in zip(*self._right, strict=True)]
            errors = round(calibration_error(before, right[0]), 4), round(calibration_error(after, right[1]), 4)
        threshold = None
        if self._decisive:
            first, second = (np.concatenate(column) for column in zip(*self._decisive, strict=True))
            asked = THRESHOLD if self._threshold is None else self._threshold
            threshold = matching_threshold(first, second, asked)
        figures = (moved.mean(), *np.quantile(moved, (0.05, 0.95)))
        mean, low, high = (round(float(figure), 4) + 0.0 for figure in figures)  # never -0.0
        return ScoreShift(mean, low, high, errors, threshold)


def calibration_error(scores: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error (0..1) of top-1 ``scores`` (n,) in 0..1; ``right`` (n,) tells which hit.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, equation 3: over ``bins`` bins of
    equal width, ``(m - 1) / bins < score <= m / bins``, the mean of ``|share of right images - mean score|``, weighted
    by the number of images in each bin.
    """
    values = scores.astype(np.float64)
    bin_of = np.clip(np.ceil(values * bins).astype(np.intp) - 1, 0, bins - 1)
    surplus = np.bincount(bin_of, right - values, bins)
    return float(np.abs(surplus).sum() / len(values))


def matching_threshold(
    reference: NDArray[np.floating], candidate: NDArray[np.floating], threshold: float = THRESHOLD
) -> MatchingThreshold:
    """Return the threshold at which the ``candidate`` decides most like the ``reference`` does at ``threshold``.

    Both are scores of one class, (n,) in 0..1. A decision is "above the threshold", so that at 0.5 it is the class of a
    softmax of two. Where several thresholds are equally good, the one nearest to ``threshold`` is taken, but never one
    beside a score: the middle between the two scores on either side.
    """
    decided = reference > threshold
    unchanged = int(np.count_nonzero((candidate > threshold) != decided))
    order = np.argsort(candidate, kind="stable")
    scores, positive = candidate[order].astype(np.float64), decided[order]
    # Below the k-th score and above the one before: the first k images are decided negative, the rest positive.
    wrong = np.concatenate([[0], np.cumsum(positive)]) + np.concatenate([np.cumsum(~positive[::-1])[::-1], [0]])
    ends = np.concatenate([[0.0], scores, [1.0]])
    possible = np.union1d(np.flatnonzero(ends[1:] > ends[:-1]), len(scores))  # above 1 lies no score
    fewest = int(wrong[possible].min())
    if unchanged <= fewest:
        return MatchingThreshold(threshold, threshold, unchanged, unchanged)
    middles = (ends[:-1] + ends[1:])[possible[wrong[possible] == fewest]] / 2
    best = float(middles[np.argmin(np.abs(middles - threshold))])
    return MatchingThreshold(threshold, best, int(np.count_nonzero((candidate > best) != decided)), unchanged)


def check_threshold(threshold: float) -> None:
    """Raise ``UsageError`` ``threshold`` unless ``threshold`` lies between 0 and 1."""
    if not 0 < threshold < 1:
        raise UsageError(
            f"--threshold must be between 0 and 1, not {threshold:g}",
            hint="give the score above which your program acts, such as 0.5",
            code="threshold",
        )
