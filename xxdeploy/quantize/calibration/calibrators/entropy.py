"""Entropy: the range whose integers tell most about the values.

Migacz 2017, "8-bit Inference with TensorRT" (GTC 2017), slides 38-42: among ranges, take the one of least
Kullback-Leibler divergence between the values ``P``, clipped, and what 256 integers keep of them, ``Q``::

    KL(P, Q) = sum(P[i] * log(P[i] / Q[i]))

``P`` is the histogram inside the range with what lies outside added to the outermost bins; ``Q`` is the same histogram,
without what lies outside, summed over the bins of each integer and spread evenly over those that are not empty.

Three things are done differently. The grid is that of asymmetric activations, so each end is sought by itself. Bins
are 2048 or more: with 128, as ONNX Runtime has by default, no integer covers two bins, and the answer is min-max. And
exact zeros are left out, which every range holds exactly: spread over the first integer's bins, half of a Relu's output
would rule the sum.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xxdeploy.quantize.calibration.collect import BINS, Distribution

LEVELS = 256
_CANDIDATES = 128
"""Ranges tried for each end, evenly from 1/128 of its length to the whole."""
_FLOOR = 1e-6
"""Probability that Q gives to a bin which is empty but for what was clipped into it; zero would make KL infinite."""


def entropy(values: Distribution) -> tuple[float, float]:
    """Return the range (widened to contain zero) of least divergence."""
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
    if high - low < LEVELS:
        return math.inf
    inside = counts[low:high]
    clipped = inside.copy()
    clipped[0] += counts[:low].sum()
    clipped[-1] += counts[high:].sum()
    level = np.arange(high - low) * LEVELS // (high - low)
    filled = clipped > 0
    mass = np.bincount(level, inside, LEVELS)
    share = np.bincount(level, filled, LEVELS)
    spread = (mass / np.maximum(share, 1))[level]
    spread /= max(spread[filled].sum(), _FLOOR)
    p, q = clipped[filled], np.maximum(spread[filled], _FLOOR)
    return float(np.sum(p * np.log(p / q)))
