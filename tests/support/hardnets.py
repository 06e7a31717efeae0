"""Made classifiers, each hard to quantize in one way, and the images and inputs to climb the ladder with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.datasets import ImageSet, open_images
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.models.catalog import BuildOptions
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import ModelOutput
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.image.preprocess import Preprocess

NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
hard (float[n, 16, 16, 3] image) => (float[n, 10] probabilities)
{
  nchw = Transpose<perm = [0, 3, 1, 2]>(image)
  stem = Conv<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(nchw, stem_w, stem_b)
  first = Relu(stem)
  wide = Conv<kernel_shape = [1, 1]>(first, wide_w, wide_b)
  JOIN
  mean = GlobalAveragePool(second)
  flat = Flatten(mean)
  raw = Gemm<transB = 1>(flat, head_w, head_b)
  END
}
"""
PREPROCESS = Preprocess(16, 16, 3, "tf")

Weights = dict[str, NDArray[np.float32]]


def weights(channels: int = 32, seed: int = 5) -> Weights:
    """Return a network that 8 bits do no harm to; its classes depend on the colors of an image."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float64] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return values.astype(np.float32)

    return {
        "stem_w": normal(channels, 3, 3, 3), "stem_b": np.full(channels, 0.2, np.float32),
        "wide_w": normal(channels, channels, 1, 1), "wide_b": np.full(channels, 0.1, np.float32),
        "head_w": 60 * normal(10, channels), "head_b": np.zeros(10, np.float32),
    }  # fmt: skip


def network(arrays: Weights, *, residual: bool = False) -> OnnxModel:
    """Return the network, its head's biases such that no class is favored.

    ``residual`` adds the first layer's output to the second's, which forbids equalization.
    """
    join = "joined = Add(first, wide)\n  second = Relu(joined)" if residual else "second = Relu(wide)"
    text = NETWORK.replace("JOIN", join)
    scores = OrtSession(_parsed(text.replace("END", "probabilities = Identity(raw)"), arrays).to_bytes())
    colors = np.random.default_rng(3).uniform(-0.7, 0.5, (256, 1, 1, 3)) * np.ones((1, 16, 16, 1))
    favor = scores.run(colors.astype(np.float32)).mean(axis=0)
    return _parsed(text.replace("END", "probabilities = Softmax(raw)"), {**arrays, "head_b": arrays["head_b"] - favor})


def _parsed(text: str, arrays: Weights) -> OnnxModel:
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    for node in proto.graph.node:
        node.name = f"{node.output[0]}/{node.op_type}"
    onnx.checker.check_model(proto, full_check=True)
    return OnnxModel.from_proto(proto)


def outlier_channel(scale: float) -> Weights:
    """One channel is ``scale`` times as large as the others, and its readers' weights are as much smaller."""
    made = weights()
    made["stem_w"][3] *= scale
    made["stem_b"][3] *= scale
    made["wide_w"][:, 3] /= scale
    return made


def rare_spikes() -> Weights:
    """One channel sees white pixels only, gives a hundred times what the others give, and nobody reads it."""
    made = weights()
    made["stem_w"][3] = -60 / 8
    made["stem_w"][3, :, 1, 1] = 60
    made["stem_b"][3] = -80
    made["wide_w"][:, 3] = 0
    return made


def biased_rounding(*, constant: bool) -> Weights:
    """All weights of the second layer are rounded down, by half a step: for ``residual`` networks.

    What is lost is the sum of the layer's inputs, which is the same for every image where ``constant``.
    """
    made = weights()
    channels = len(made["wide_w"])
    made["stem_b"][:] = 3
    if constant:
        made["stem_w"][1::2] = -made["stem_w"][::2]
    else:
        made["stem_w"][::2] = np.abs(made["stem_w"][::2])  # every other channel grows with the brightness
    steps = np.random.default_rng(8).integers(-3, 3, (channels, channels)) + 0.49
    np.fill_diagonal(steps, 127)
    made["wide_w"] = (steps / 127).astype(np.float32).reshape(channels, channels, 1, 1)
    made["wide_b"][:] = 0
    return made


def small_differences() -> Weights:
    """What matters are differences, a thousandth of the values: more than 8 bits, whatever is done."""
    made = weights()
    made["stem_b"][:] = 1000
    made["wide_w"] -= made["wide_w"].mean(axis=1, keepdims=True)
    return made


def saturating() -> Weights:
    """Large weights of one sign side by side, and inputs near the top of their range: 16-bit sums overflow."""
    made = weights()
    made["stem_b"][:] = 3
    rng = np.random.default_rng(11)
    pairs = np.repeat(rng.choice([-1.0, 1.0], (32, 16)), 2, axis=1)
    made["wide_w"] = (pairs * rng.uniform(0.8, 1, (32, 32))).astype(np.float32).reshape(32, 32, 1, 1)
    made["head_w"] /= 8
    return made


def harmless_overflow() -> Weights:
    """Neighbors have different signs, but for two weights that read channels which are always zero."""
    made = weights()
    signs = (-1.0) ** np.arange(32)
    made["stem_w"] = np.abs(made["stem_w"]) * signs[:27].reshape(3, 3, 3).transpose(2, 0, 1)
    made["stem_w"][::3] *= -1
    made["stem_w"][6:8] = made["stem_b"][6:8] = 0
    made["wide_w"] = np.abs(made["wide_w"]) * signs.reshape(32, 1, 1)
    made["wide_w"][9, 6:8] = 1
    made["head_w"] = np.abs(made["head_w"]) * signs
    return {name: value.astype(np.float32) for name, value in made.items()}


def draw(folder: Path, count: int, seed: int, *, white: int = 0) -> ImageSet:
    """Save images of eight colors, each under some noise; in ``white`` of them one pixel is white."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        color = 60 + 120 * np.array([index & 1, index >> 1 & 1, index >> 2 & 1]) + rng.normal(0, 6, 3)
        pixels = color + rng.normal(0, 12, (16, 16, 3))
        if index < white:
            pixels[8, 8] = 255
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{index:03}.png")
    return open_images(folder)


def inputs(calibration: ImageSet, selection: ImageSet | None = None) -> Inputs:
    """Return what a plan for these images is followed to."""
    return Inputs(
        BuildOptions(), PREPROCESS, ModelOutput("probabilities", 10), None, calibration, selection, None, None, ()
    )
