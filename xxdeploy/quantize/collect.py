"""What calibration keeps of a tensor while the images stream by, and the range it makes of that."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BINS = 4096
"""Bins on each side of zero. At least half are used on the longer side, so one is 1/2048 of the range or less."""

SAMPLE = 32768
"""Values of one tensor and image that a histogram takes in: every n-th, n odd so as not to run along with rows."""


class Collector(Protocol):
    """Takes the values of one tensor, image by image, and gives the range to quantise it over."""

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in the values of one image, in any shape."""
        ...

    def range(self) -> tuple[float, float]:
        """Return (low, high). NaN and infinity that were seen are in it, for ``Ranges`` to refuse."""
        ...


class MinMax:
    """The smallest and the largest value."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in the values of one image; NaN stays once it was there."""
        self.low = float(np.minimum(self.low, values.min()))
        self.high = float(np.maximum(self.high, values.max()))

    def range(self) -> tuple[float, float]:
        """Return (low, high)."""
        return self.low, self.high


class Histogram:
    """Counts in bins whose width doubles as values grow, so that one pass is enough and memory is fixed.

    Widths are powers of two and an edge lies on zero: doubling merges whole bins, and the result does not depend on the
    order of the images. ``counts`` is int64 (2 * BINS,), bin ``i`` holds ``width * (i - BINS) <= value < width * (i + 1
    - BINS)``; ``extremes`` are exact, over all values and not only the counted ones.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS, np.int64)
        self.width = 0.0
        self.extremes = MinMax()

    def add(self, values: NDArray[np.float32]) -> None:
        """Count (a sample of) the values of one image."""
        self.extremes.add(values)
        low, high = self.extremes.range()
        if not (math.isfinite(low) and math.isfinite(high)):
            return
        self._fit(max(-low, high))
        flat = values.reshape(-1)
        step = -(-flat.size // SAMPLE) | 1
        bins = np.floor(flat[::step].astype(np.float64) / self.width).astype(np.intp) + BINS
        self.counts += np.bincount(bins, minlength=2 * BINS)

    def range(self) -> tuple[float, float]:
        """Return the extremes."""
        return self.extremes.range()

    def quantile(self, share: float) -> float:
        """Return the value below which ``share`` (0..1) of the counted values lie, linear inside a bin."""
        below = np.concatenate([[0], np.cumsum(self.counts)])
        edges = (np.arange(2 * BINS + 1) - BINS) * self.width
        filled = np.flatnonzero(self.counts)
        target = share * below[-1]
        bin_ = filled[min(int(np.searchsorted(below[filled + 1], target)), filled.size - 1)]
        inside = (target - below[bin_]) / self.counts[bin_]
        return float(np.clip(edges[bin_] + inside * self.width, *self.extremes.range()))

    def _fit(self, largest: float) -> None:
        """Widen the bins until ``largest`` lies inside."""
        needed = 2.0 ** (math.floor(math.log2(max(largest, 2.0**-100))) + 1) / BINS
        if self.width == 0.0:
            self.width = needed
        while self.width < needed:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[BINS // 2 : BINS + BINS // 2] = pairs
            self.width *= 2


class Percentile(Histogram):
    """The range that holds ``percent`` of the values, the same share left out on either side."""

    def __init__(self, percent: float) -> None:
        super().__init__()
        self.percent = percent

    def range(self) -> tuple[float, float]:
        """Return (low, high)."""
        low, high = self.extremes.range()
        if not (math.isfinite(low) and math.isfinite(high)):
            return low, high
        outside = (1 - self.percent / 100) / 2
        return self.quantile(outside), self.quantile(1 - outside)
