"""Calibrators: from the distribution of a tensor to the range (low, high) it is quantized over. One a file.

====================  =========================================================================================
``minmax``            the extremes
``moving-average``    the extremes of a typical image
``percentile-P``      what holds P percent of the values, P from 50 to 100: ``percentile-99.99``
``entropy``           least Kullback-Leibler divergence
``mse``               least expected squared error
====================  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xxdeploy.errors import UsageError
from xxdeploy.quantize.calibration.calibrators.entropy import entropy
from xxdeploy.quantize.calibration.calibrators.minmax import minmax
from xxdeploy.quantize.calibration.calibrators.moving_average import moving_average
from xxdeploy.quantize.calibration.calibrators.mse import mse
from xxdeploy.quantize.calibration.calibrators.percentile import percentile
from xxdeploy.quantize.calibration.collect import Distribution

Calibrator = Callable[[Distribution], tuple[float, float]]

METHODS = "minmax, moving-average, percentile-P (P from 50 to 100, such as percentile-99.99), entropy, mse"
"""The names, for help and hints."""

_PLAIN: Mapping[str, Calibrator] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "entropy": entropy,
    "mse": mse,
}


def calibrator(method: str) -> Calibrator:
    """Return the calibrator of that name.

    Raises
    ------
    UsageError
        ``unknown-calibrator``.
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
