"""A small network for the tests of this folder, in float32 and in TensorRT's INT8; a mark for tests that need RTX."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, scheme
from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt
from xxdeploy.results import Ranges

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[n, 32, 32, 3] image) => (float[n, 10] probabilities)
{
  nchw = Transpose<perm = [0, 3, 1, 2]>(image)
  stem = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(nchw, stem_w, stem_b)
  stem6 = Relu(stem)
  deep = Conv<group = 16, pads = [1, 1, 1, 1]>(stem6, deep_w, deep_b)
  deep6 = Relu(deep)
  thin = Conv(deep6, thin_w, thin_b)
  sum = Add(stem6, thin)
  last = Conv(sum, last_w, last_b)
  mean = GlobalAveragePool(last)
  flat = Flatten(mean)
  logits = Gemm(flat, head_w, head_b)
  probabilities = Softmax(logits)
}
"""
SHAPES = {
    "stem": (16, 3, 3, 3),
    "deep": (16, 1, 3, 3),
    "thin": (16, 16, 1, 1),
    "last": (32, 16, 1, 1),
    "head": (32, 10),
}
MACS = 16 * 16 * (16 * 27 + 16 * 9 + 16 * 16 + 32 * 16) + 320

rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed (pip install 'xxdeploy[tensorrt-rtx]')",
)


def small(seed: int = 3) -> OnnxModel:
    """Return the network with random weights; the nodes are called ``layer/Op`` as a Keras export calls them."""
    rng = np.random.default_rng(seed)
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in SHAPES.items():
        weights = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        bias = rng.standard_normal(shape[1] if name == "head" else shape[0]).astype(np.float32) / 4
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, f"{name}_w"))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(bias, f"{name}_b"))
    for node in proto.graph.node:
        node.name = f"{node.output[0]}/{node.op_type}"
    onnx.checker.check_model(proto, full_check=True)
    return OnnxModel.from_proto(proto)


def pictures(count: int = 8) -> NDArray[np.float32]:
    """Return preprocessed images (count, 32, 32, 3) float32."""
    return np.random.default_rng(1).uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)


def ranges(model: OnnxModel) -> Ranges:
    """Return what calibration finds on :func:`pictures`."""

    def batches() -> Iterator[NDArray[np.float32]]:
        yield pictures()

    return calibrate(model, batches, data_digest="pictures")


def small_int8(model: OnnxModel | None = None) -> OnnxModel:
    """Return the network in INT8 as TensorRT wants it."""
    floats = small() if model is None else model
    return quantize_for_tensorrt(floats, ranges(floats), scheme("static-w8c-a8s"))
