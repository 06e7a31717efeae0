"""MSE: the range whose rounding and clipping together lose least.

Banner et al. 2019 (ACIQ), arXiv:1810.05723, equation 1 and section 3, on the measured distribution instead of a
Laplace or Gauss fitted to it, and with two free ends. A value ``x`` outside ``low..high`` is off by its distance, one
inside by up to half a step, and one that is less than half a step from zero by all of itself::

    E(low, high) = E[(x - clip(x, low, high)) ** 2] + sum over |x| < step / 2 of P(x) * x ** 2
                 + P(|x| >= step / 2) * step ** 2 / 12,      step = (high - low) / 255

So exact zeros cost nothing; after a Relu they are half of all values. The best ``high`` and the best ``low`` are taken
in turn until both stay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xxdeploy.quantize.calibration.collect import BINS, Distribution

STEPS = 255
_ROUNDS = 20


def mse(values: Distribution) -> tuple[float, float]:
    """Return the range (widened to contain zero) of least expected squared error."""
    counts = values.counts.astype(np.float64)
    counts[BINS] -= values.zeros
    points = np.clip((values.edges[:-1] + values.edges[1:]) / 2, values.low, values.high)
    limits = values.edges[BINS:]
    above = _moments(counts[BINS:], points[BINS:])
    below = _moments(counts[:BINS][::-1], -points[:BINS][::-1])
    over, under = _clipped(above, limits), _clipped(below, limits)
    near = counts[BINS:] + counts[:BINS][::-1], above[2] + below[2]
    inner = np.concatenate([[0], np.cumsum(near[0])])
    energy = near[1][0] - near[1]

    def rounded(width: NDArray[np.float64]) -> NDArray[np.float64]:
        step = width / STEPS
        small, others = np.interp(step / 2, limits, energy), inner[-1] - np.interp(step / 2, limits, inner)
        lost: NDArray[np.float64] = small + others * step**2 / 12
        return lost

    low = high = 0
    for _ in range(_ROUNDS):
        before = low, high
        high = int(np.argmin(rounded(limits[low] + limits) + over))
        low = int(np.argmin(rounded(limits[high] + limits) + under))
        if (low, high) == before:
            break
    return max(-float(limits[low]), min(values.low, 0.0)), min(float(limits[high]), max(values.high, 0.0))


def _moments(counts: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of points ** 0, 1, 2 that lie beyond each limit, (3, points + 1).

    Point ``i`` lies between limits ``i`` and ``i + 1``.
    """
    terms = counts * points ** np.arange(3)[:, np.newaxis]
    return np.concatenate([np.cumsum(terms[:, ::-1], axis=1)[:, ::-1], np.zeros((3, 1))], axis=1)


def _clipped(moments: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of squared distances that clipping at each limit costs."""
    lost: NDArray[np.float64] = moments[2] - 2 * limits * moments[1] + limits**2 * moments[0]
    return lost
