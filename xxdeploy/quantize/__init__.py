"""Static INT8: what is asked (scheme), where it goes (layout), what the values are (calibration), how it is written."""

from xxdeploy.quantize.calibration.cache import CalibrationKey, cached_histograms
from xxdeploy.quantize.calibration.calibrate import calibrate, observe_histograms
from xxdeploy.quantize.calibration.checkpoint import Checkpoint
from xxdeploy.quantize.calibration.histograms import Histograms, choose_ranges
from xxdeploy.quantize.calibration.images import Batches
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.scheme import Scheme, scheme

__all__ = [
    "Batches",
    "CalibrationKey",
    "Checkpoint",
    "Histograms",
    "Scheme",
    "cached_histograms",
    "calibrate",
    "choose_ranges",
    "observe_histograms",
    "quantize",
    "scheme",
]
