"""Static INT8: the scheme, the layout of integers in the graph, calibration, and writing Q/DQ pairs."""

from xxdeploy.quantize.calibration.cache import CalibrationKey, Checkpoint, cached_histograms
from xxdeploy.quantize.calibration.calibrate import calibrate, observe_histograms
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
