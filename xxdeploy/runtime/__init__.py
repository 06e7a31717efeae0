"""The ring that runs on the device: numpy, pillow and onnxruntime, nothing else.

>>> from xxdeploy.runtime import load
>>> load("exports/mobilenetv2-int8").predict("cat.jpg")
"""

from xxdeploy.runtime.answers import Prediction
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.predictor import Runtime, load
from xxdeploy.runtime.selftest import SelfTest

__all__ = ["Prediction", "Preprocess", "Runtime", "SelfTest", "load"]
