"""The widths and sizes for small devices: each is accepted, and the smallest and the widest become ONNX."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.models.options import SIZES, WIDTHS, check_options
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.engines.ort import OrtSession


@pytest.mark.parametrize("name", sorted(WIDTHS))
def test_every_preset_has_imagenet_weights_and_any_width_can_have_ones_own(name: str) -> None:
    spec = find(name)
    for size in SIZES[name]:
        for alpha in WIDTHS[name]:
            check_options(spec, BuildOptions(alpha=alpha, input_size=size))
    for alpha in (0.25, 0.35, 1.3, 1.4):
        for size in (96, 224):
            check_options(spec, BuildOptions(alpha=alpha, input_size=size), weights="none")


@pytest.mark.parametrize(("name", "alpha", "size"), [("mobilenet", 0.25, 96), ("mobilenetv2", 1.4, 96)])
def test_the_corners_are_the_same_network_in_onnx(name: str, alpha: float, size: int) -> None:
    model = build_model(find(name), weights="none", options=BuildOptions(alpha=alpha, input_size=size))
    onnx, _ = optimize(onnx_from_keras(model))
    batch = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    expected = np.asarray(model(batch, training=False))
    assert np.abs(OrtSession(onnx.to_bytes(), threads=1).run(batch) - expected).max() < 1e-5
