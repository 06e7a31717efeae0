"""The two networks that this project is judged by, with their real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, optimized_ops, run, with_biases

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.datasets import open_images
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.runtime.image.preprocess import Preprocess

U8S8 = scheme("static-w8c-a8")


def agreement(model: OnnxModel, candidate: OnnxModel, batch: NDArray[np.float32]) -> float:
    """Return the share of images with the same class."""
    return float((run(model, batch).argmax(axis=1) == run(candidate, batch).argmax(axis=1)).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "convolutions", "additions"), [("mobilenet", 28, 0), ("mobilenetv2", 52, 10)], ids=["v1", "v2"]
)
def test_every_layer_is_an_integer_kernel_and_classes_stay(
    shared_data: Path, tmp_path: Path, name: str, convolutions: int, additions: int
) -> None:
    model, _ = optimize(onnx_from_keras(build_model(find(name))))
    images = open_images(shared_data / "imagenet-train").sample(96, seed=1)
    batch = np.concatenate(list(images.batches(Preprocess(224, 224), 32)))
    seen, unseen = batch[:48], batch[48:]

    ranges = calibrate(model, batches(seen), method="percentile-99.99", data_digest="d")
    quantized = quantize(model, ranges, U8S8)
    count = optimized_ops(quantized, tmp_path)
    assert count["QLinearConv"] + count["QGemm"] == convolutions + (name == "mobilenetv2")
    assert count["QLinearAdd"] == additions
    assert not count.keys() & {"Conv", "FusedConv", "Clip", "Gemm", "Add", "GlobalAveragePool"}
    assert quantized.size < 0.3 * model.size

    corrected = quantize(with_biases(model, ranges, U8S8, batches(seen)), ranges, U8S8)
    plain, better = agreement(model, quantized, unseen), agreement(model, corrected, unseen)
    assert plain > 0.8
    assert better > 0.93
    assert better >= plain - 0.03
