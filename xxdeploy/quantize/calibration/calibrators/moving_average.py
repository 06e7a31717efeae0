"""Moving average: the extremes of a typical image instead of the extremest.

Jacob et al. 2018, arXiv:1712.05877, section 3.1, smooth the observed ranges "via exponential moving averages". Over
images ``t = 1..n`` with extremes ``x_t`` and decay ``d``, free of the bias of a start at zero::

    m_n = sum(d ** (n - t) * x_t) / sum(d ** (n - t))

It is the one calibrator that depends on the order of the images.
"""

from __future__ import annotations

from xxdeploy.quantize.calibration.collect import Distribution


def moving_average(values: Distribution) -> tuple[float, float]:
    """Return the averages of the lower and of the upper extremes."""
    return values.moving_low, values.moving_high
