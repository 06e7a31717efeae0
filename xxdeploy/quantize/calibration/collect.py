"""The distribution of a tensor's values, of fixed size for any number of images.

Each image has one, and two of them merge into one. Every calibrator is a function of the result, so one pass over
the images serves them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 4096
"""Bins on each side of zero. At least half are used on the longer side, so a bin is 1/2048 of the range or less."""

SAMPLE = 16384
"""Values of one tensor and image that are counted: every n-th, with n odd, so that the columns of images vary."""

DECAY = 0.99
"""Factor by which one more image reduces the weight of all earlier ones in the moving average."""

_SMALLEST = 2.0**-100


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The values that a tensor took in ``images`` images.

    Bins have one width, a power of two, and an edge lies on zero. ``counts`` is int64 (2 * BINS,): bin ``i`` holds
    ``width * (i - BINS) <= value < width * (i + 1 - BINS)``. Widening merges whole bins, so counts do not depend on the
    order of the images. ``zeros`` of the counted values are exactly zero, as about half of a Relu's output is: integers
    hold those exactly. ``low`` and ``high`` are exact, over all values and not only the counted ones.

    ``moving_low`` and ``moving_high`` are the moving averages of each image's extremes, later images weighing more.
    """

    images: int
    low: float
    high: float
    moving_low: float
    moving_high: float
    width: float
    zeros: int
    counts: NDArray[np.int64] = field(repr=False)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The 2 * BINS + 1 edges of the bins."""
        return np.arange(-BINS, BINS + 1, dtype=np.float64) * np.float64(self.width)

    def merged(self, later: Distribution) -> Distribution:
        """Return the distribution over these images and then ``later`` ones."""
        width = max(self.width, later.width)
        before, after = _weight(self.images), _weight(later.images)
        faded = before * DECAY**later.images

        def average(old: float, new: float) -> float:
            return (old * faded + new * after) / (faded + after)

        return Distribution(
            images=self.images + later.images,
            low=float(np.minimum(self.low, later.low)),
            high=float(np.maximum(self.high, later.high)),
            moving_low=average(self.moving_low, later.moving_low),
            moving_high=average(self.moving_high, later.moving_high),
            width=width,
            zeros=self.zeros + later.zeros,
            counts=_widened(self, width) + _widened(later, width),
        )


def measure(values: NDArray[np.float32]) -> Distribution:
    """Return the distribution of one image's tensor, in any shape. NaN and infinity show in ``low`` and ``high``."""
    low, high = float(values.min()), float(values.max())
    largest = max(-low, high, _SMALLEST)
    if not math.isfinite(largest):
        return Distribution(1, low, high, low, high, _SMALLEST, 0, np.zeros(2 * BINS, np.int64))
    exponent = math.frexp(largest)[1]  # largest < 2 ** exponent
    flat = values.reshape(-1)
    sample = flat[:: -(-flat.size // SAMPLE) | 1]
    zeros = sample.size - int(np.count_nonzero(sample))
    # A power of two times a float32 is exact, so this is as good as float64.
    bins = sample * np.float32(math.ldexp(BINS, -exponent))
    np.floor(bins, out=bins)
    counts = np.bincount(bins.astype(np.intp) + BINS, minlength=2 * BINS)
    return Distribution(1, low, high, low, high, math.ldexp(1 / BINS, exponent), zeros, counts)


def _weight(images: int) -> float:
    """Return the total weight of so many images in a moving average: the sum of DECAY ** i."""
    return (1 - DECAY**images) / (1 - DECAY)


def _widened(distribution: Distribution, width: float) -> NDArray[np.int64]:
    """Return the counts in bins of ``width``, the distribution's own times a power of two."""
    counts, own = distribution.counts, distribution.width
    while own < width:
        pairs = counts.reshape(-1, 2).sum(axis=1)
        counts = np.zeros_like(counts)
        counts[BINS // 2 : BINS + BINS // 2] = pairs
        own *= 2
    return counts
