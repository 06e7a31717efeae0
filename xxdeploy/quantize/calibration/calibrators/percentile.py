"""Percentile: a range that holds so many percent of the values.

McKinstry et al. 2018, arXiv:1809.04191, section 3.1; Wu et al. 2020, arXiv:2004.09602, section 3.4. With ``F`` the
share of values below::

    low = F^-1((1 - P) / 2)      high = F^-1((1 + P) / 2)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xxdeploy.quantize.calibration.collect import Distribution


def percentile(percent: float) -> Callable[[Distribution], tuple[float, float]]:
    """Return the calibrator that leaves ``100 - percent`` percent out, the same share on either side."""
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
