"""Calibrators: from the distribution of a tensor to the range (low, high) that it is quantized over.

====================  =========================================================================================
``minmax``            the extremes
``moving-average``    the extremes of a typical image
``percentile-P``      the range that holds P percent of the values, P from 50 to 100: ``percentile-99.99``
``entropy``           least Kullback-Leibler divergence
``mse``               least expected squared error
====================  =========================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError
from xxdeploy.quantize.calibration.collect import BINS, Distribution

Calibrator = Callable[[Distribution], tuple[float, float]]

METHODS = "minmax, moving-average, percentile-P (P from 50 to 100, such as percentile-99.99), entropy, mse"
"""The names, for help and hints."""

INTEGERS = 256
_CANDIDATES = 128
"""Ranges that ``entropy`` tries for each end, evenly from 1/128 of its length to the whole."""
_FLOOR = 1e-6
"""Probability that Q gets in a bin that only clipped values fall into; zero would make KL infinite."""
_ROUNDS = 20
"""Most rounds of ``mse``."""


def calibrator(method: str) -> Calibrator:
    """Return the calibrator of that name.

    Raises ``UsageError`` (``unknown-calibrator``).
    """
    if method in _PLAIN:
        return _PLAIN[method]
    kind, _, parameter = method.partition("-")
    if kind == "percentile":
        try:
            percent = float(parameter)
        except ValueError:
            percent = -1.0
        if 50 < percent <= 100:
            return percentile(percent)
    raise UsageError(f"unknown calibration method {method!r}", hint=f"methods: {METHODS}", code="unknown-calibrator")


def minmax(values: Distribution) -> tuple[float, float]:
    """Return the smallest and the largest value: nothing is clipped, and one outlier widens every step.

    Krishnamoorthi 2018, arXiv:1806.08342, section 3.1.1.
    """
    return values.low, values.high


def moving_average(values: Distribution) -> tuple[float, float]:
    """Return the moving averages of the lower and of the upper extremes of each image.

    Jacob et al. 2018, arXiv:1712.05877, section 3.1, smooth the observed ranges "via exponential moving averages". Over
    images ``t = 1..n`` with extremes ``x_t`` and decay ``d``, without the bias of a start at zero::

        m_n = sum(d ** (n - t) * x_t) / sum(d ** (n - t))

    It is the only calibrator that depends on the order of the images.
    """
    return values.moving_low, values.moving_high


def percentile(percent: float) -> Calibrator:
    """Return the calibrator that leaves ``100 - percent`` percent of the values out, the same share on either side.

    McKinstry et al. 2018, arXiv:1809.04191, section 3.1; Wu et al. 2020, arXiv:2004.09602, section 3.4. With ``F`` the
    share of values below::

        low = F^-1((1 - P) / 2)      high = F^-1((1 + P) / 2)
    """
    outside = (1 - percent / 100) / 2
    return lambda values: (quantile(values, outside), quantile(values, 1 - outside))


def quantile(values: Distribution, share: float) -> float:
    """Return the value below which ``share`` (0..1) of the counted values lie, linear inside a bin."""
    below = np.concatenate([[0], np.cumsum(values.counts)])
    filled = np.flatnonzero(values.counts)
    target = share * below[-1]
    bin_ = filled[min(int(np.searchsorted(below[filled + 1], target)), filled.size - 1)]
    inside = (target - below[bin_]) / values.counts[bin_]
    return float(np.clip(values.edges[bin_] + inside * values.width, values.low, values.high))


def entropy(values: Distribution) -> tuple[float, float]:
    """Return the range (widened to contain zero) whose integers keep most of the distribution.

    Migacz 2017, "8-bit Inference with TensorRT" (GTC 2017), slides 38-42: among ranges, take the one with the least
    Kullback-Leibler divergence between the values ``P``, clipped, and their copy ``Q`` in 256 integers::

        KL(P, Q) = sum(P[i] * log(P[i] / Q[i]))

    ``P`` is the histogram inside the range with everything outside added to the outermost bins; ``Q`` is the same
    histogram without everything outside, summed over the bins of each integer and spread evenly over those that are not
    empty.

    There are three differences. Activations are asymmetric, so each end is sought separately. There are 2048 bins or
    more: with 128, ONNX Runtime's default, no integer covers two bins, and the answer is min-max. And exact zeros are
    left out, which every range holds exactly: spread over the first integer's bins, half of a Relu's output would
    dominate the sum.
    """
    counts = values.counts.astype(np.float64)
    counts[BINS] -= values.zeros
    total = counts.sum()
    if total <= 0:
        return values.low, values.high
    counts /= total
    filled = np.flatnonzero(counts)
    low, high = min(int(filled[0]), BINS), max(int(filled[-1]) + 1, BINS)
    high = min(_ends(BINS, high), key=lambda end: _divergence(counts, low, end))
    low = min(_ends(BINS, low), key=lambda end: _divergence(counts, end, high))
    edges = values.edges
    return max(float(edges[low]), min(values.low, 0.0)), min(float(edges[high]), max(values.high, 0.0))


def _ends(zero: int, end: int) -> list[int]:
    """Return where one end of the range may lie: the extreme first, so that it wins a tie."""
    tried = np.linspace(end, zero, _CANDIDATES, endpoint=False).round().astype(int)
    return list(dict.fromkeys(tried.tolist()))


def _divergence(counts: NDArray[np.float64], low: int, high: int) -> float:
    """Return KL(P, Q) for the range of bins ``low..high``."""
    if high - low < INTEGERS:
        return math.inf
    inside = counts[low:high]
    clipped = inside.copy()
    clipped[0] += counts[:low].sum()
    clipped[-1] += counts[high:].sum()
    level = np.arange(high - low) * INTEGERS // (high - low)
    filled = clipped > 0
    mass = np.bincount(level, inside, INTEGERS)
    share = np.bincount(level, filled, INTEGERS)
    spread = (mass / np.maximum(share, 1))[level]
    spread /= max(spread[filled].sum(), _FLOOR)
    p, q = clipped[filled], np.maximum(spread[filled], _FLOOR)
    return float(np.sum(p * np.log(p / q)))


def mse(values: Distribution) -> tuple[float, float]:
    """Return the range (widened to contain zero) of least expected squared error.

    Banner et al. 2019 (ACIQ), arXiv:1810.05723, equation 1 and section 3, on the measured distribution instead of a
    fitted Laplace or Gauss distribution, and with two free ends. A value ``x`` outside ``low..high`` is off by its
    distance, one inside by up to half a step, and one less than half a step from zero by all of itself::

        E(low, high) = E[(x - clip(x, low, high)) ** 2] + sum over |x| < step / 2 of P(x) * x ** 2
                     + P(|x| >= step / 2) * step ** 2 / 12,      step = (high - low) / 255

    So exact zeros cost nothing; after a Relu they are half of all values. The best ``high`` and the best ``low`` are
    taken alternately until both stay.
    """
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
        step = width / (INTEGERS - 1)
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


_PLAIN: Mapping[str, Calibrator] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "entropy": entropy,
    "mse": mse,
}
