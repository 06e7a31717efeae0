"""Min-max: the smallest and the largest value.

Krishnamoorthi 2018, arXiv:1806.08342, section 3.1.1. Nothing is clipped; one outlier widens every step.
"""

from __future__ import annotations

from xxdeploy.quantize.calibration.collect import Distribution


def minmax(values: Distribution) -> tuple[float, float]:
    """Return the extremes."""
    return values.low, values.high
