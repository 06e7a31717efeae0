"""Static INT8: what is asked (scheme), where it goes (layout), what the values are (calibration), how it is written."""

from xxdeploy.quantize.bias_correction import correct_biases
from xxdeploy.quantize.cache import CalibrationKey, cached_calibration, load_ranges, save_ranges
from xxdeploy.quantize.calibrate import Batches, calibrate
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.scheme import Scheme, scheme

__all__ = [
    "Batches",
    "CalibrationKey",
    "Scheme",
    "cached_calibration",
    "calibrate",
    "correct_biases",
    "load_ranges",
    "quantize",
    "save_ranges",
    "scheme",
]
