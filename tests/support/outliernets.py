"""A network in which one layer loses nearly all that INT8 loses, for the tests of sensitivity and ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from quantnets import batches, images, parse

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, scheme
from xxdeploy.results import Ranges

U8S8 = scheme("static-w8c-a8")

OUTLIER = """
<ir_version: 8, opset_import: ["" : 17]>
outlier (float[n, 16, 16, 3] image) => (float[n, 10] probabilities)
{
  nchw = Transpose<perm = [0, 3, 1, 2]>(image)
  first = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(nchw, first_w, first_b)
  first6 = Relu(first)
  bad = Conv(first6, bad_w, bad_b)
  bad6 = Relu(bad)
  third = Conv<pads = [1, 1, 1, 1]>(bad6, third_w, third_b)
  third6 = Relu(third)
  fourth = Conv(third6, fourth_w, fourth_b)
  fourth6 = Relu(fourth)
  mean = GlobalAveragePool(fourth6)
  flat = Flatten(mean)
  logits = Gemm<transB = 1>(flat, head_w, head_b)
  probabilities = Softmax(logits)
}
"""

ONE_LAYER = """
<ir_version: 8, opset_import: ["" : 17]>
one (float[n, 3, 8, 8] x) => (float[n, 4, 8, 8] y) { y = Conv(x, w) }
"""


def outlier(*, weights: float = 1.0, activations: float = 1.0, dead: bool = False, seed: int = 3) -> OnnxModel:
    """Four convolutions. In ``bad`` one input channel has large weights for values next to nothing, as a folded batch
    norm can leave behind; or its first output channel has large values, for which the next layer has small weights; or
    it gives zeros."""
    rng = np.random.default_rng(seed)

    def made(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float32] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return values

    arrays = {
        "first_w": made(8, 3, 3, 3), "first_b": np.full(8, 0.3, np.float32), "bad_w": made(12, 8, 1, 1),
        "bad_b": np.full(12, 0.2, np.float32), "third_w": made(12, 12, 3, 3), "third_b": np.full(12, 0.2, np.float32),
        "fourth_w": made(16, 12, 1, 1), "fourth_b": np.full(16, 0.2, np.float32), "head_w": made(10, 16) * 8,
        "head_b": made(10, 1)[:, 0],
    }  # fmt: skip
    arrays["first_w"][0] /= np.float32(weights**2)
    arrays["first_b"][0] /= np.float32(weights**2)
    arrays["bad_w"][:, 0] *= np.float32(weights)
    arrays["bad_w"][0] *= np.float32(activations)
    arrays["bad_b"][0] *= np.float32(activations)
    arrays["third_w"][:, 0] /= np.float32(activations)
    if dead:
        arrays["bad_w"][:] = 0
        arrays["bad_b"][:] = -1
    return parse(OUTLIER, arrays)


def ranges_of(model: OnnxModel) -> Ranges:
    return calibrate(model, batches(images(16)), method="minmax", data_digest="d")
