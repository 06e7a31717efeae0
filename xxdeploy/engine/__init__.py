"""TensorRT engines: one path for TensorRT 10, 11 and TensorRT for RTX, and the proof of their precision.

Experimental: engines are built and proved without a GPU, and none has ever been run on a card. Only this package and
``runtime.engines`` import ``tensorrt`` and ``tensorrt_rtx``, and only when they are needed.
"""

from xxdeploy.engine.build import build_engine, check_engine_options
from xxdeploy.engine.library import explain, load_library
from xxdeploy.engine.options import Batch, Engine, EngineOptions, parse_batch, parse_gpus

__all__ = [
    "Batch",
    "Engine",
    "EngineOptions",
    "build_engine",
    "check_engine_options",
    "explain",
    "load_library",
    "parse_batch",
    "parse_gpus",
]
