"""Whole graphs as LiteRT files: their input, their constants, and the refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from litertnets import error, in_int8, in_litert, network, steps, weights
from quantnets import batches, run
from random_models import random_model

from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.errors import ConversionError
from xxdeploy.lowering.center_pixels import CENTERED, shift_input
from xxdeploy.lowering.litert.write import to_litert
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import Scheme, calibrate, quantize
from xxdeploy.runtime.engines.litert import LitertSession
from xxdeploy.runtime.image.grid import PixelGrid
from xxdeploy.runtime.image.preprocess import Preprocess

GRID = PixelGrid(1 / 127.5, 127.5)


def on_pixels(*, shifted: bool) -> tuple[OnnxModel, Preprocess]:
    """Return an INT8 model whose image is moved by half a step, so that its integers are pixels; or is not."""
    body = "c = Conv(x, w, b) y = GlobalAveragePool(c)"
    model = network(body, "float[n, 4, 1, 1]", {"w": weights(4, 3, 3, 3), "b": weights(4)}, image="n, 16, 16, 3")
    if shifted:
        model, _ = optimize(model, [lambda graph: shift_input(graph, GRID.step / 2)])
    preprocess = Preprocess(16, 16, mode="tf")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
    calibrated = calibrate(model, batches(preprocess.normalize(pixels)), data_digest="d")
    image, span = (CENTERED, (-127 * GRID.step, 128 * GRID.step)) if shifted else ("image", (-1.0, 1.0))
    return quantize(model, replace(calibrated, ranges={**calibrated.ranges, image: span}), Scheme()), preprocess


def test_a_picture_goes_in_as_it_is() -> None:
    model, preprocess = on_pixels(shifted=True)
    session = LitertSession(to_litert(model, GRID))
    assert session.takes_pixels
    pixels = np.arange(4 * 768).reshape(4, 16, 16, 3).astype(np.uint8)
    np.testing.assert_allclose(session.run(pixels), run(model, preprocess.normalize(pixels)), atol=0.05)
    np.testing.assert_array_equal(session.run(pixels), session.run(preprocess.normalize(pixels)))


def test_pixels_between_two_integers_stay_float() -> None:
    model, _ = on_pixels(shifted=False)
    assert not LitertSession(to_litert(model, GRID)).takes_pixels


def test_constants_of_one_picture_are_folded() -> None:
    body = "s = Shape(x) b = Gather(s, z) u = Unsqueeze(b, z1) v = Concat<axis = 0>(u, m) y = Reshape(x, v)"
    arrays = {"z": np.array(0), "z1": np.array([0]), "m": np.array([216])}
    assert error(network(body, "float[n, 216]", arrays)) == 0


def test_an_unknown_operator_is_refused_by_name() -> None:
    with pytest.raises(ConversionError, match="Det") as caught:
        to_litert(network("y = Det(x)", "float[n, 3]", image="n, 8, 8, 3"))
    assert caught.value.code == "litert-operator"


def test_a_free_shape_is_refused() -> None:
    with pytest.raises(ConversionError) as caught:
        to_litert(network("y = Relu(x)", "float[n, 3, h, w]", image="n, h, w, 3"))
    assert caught.value.code == "litert-shape"


def test_the_same_model_gives_the_same_bytes() -> None:
    model = in_int8(network("c = Conv(x, w) y = Relu(c)", "float[n, 4, 7, 6]", {"w": weights(4, 3, 3, 3)}))
    assert to_litert(model) == to_litert(model)


@pytest.mark.parametrize("seed", [50003, 50008, 50021, 50029, 50033, 50044])
def test_random_models_are_equal(seed: int) -> None:
    """As ``scripts/fuzz_litert.py`` does for many more."""
    model = random_model(seed)
    onnx, _ = optimize(onnx_from_keras(model, outputs=[f"output_{index}" for index in range(len(model.outputs))]))
    batch = np.random.default_rng(seed).uniform(-1, 1, (2, *model.input_shape[1:])).astype(np.float32)
    right = run(onnx, batch)
    np.testing.assert_allclose(in_litert(onnx, batch), right, atol=1e-3 * np.abs(right).max())


@pytest.mark.parametrize("signed", [True, False])
def test_a_small_network_differs_by_one_step_at_most(signed: bool) -> None:
    body = """a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(a) c = Conv<group = 8, pads = [1, 1, 1, 1]>(b, v) d = Relu(c)
              e = Conv(d, u) f = Add(e, b) g = GlobalAveragePool(f) h = Flatten(g) y = Gemm(h, m)"""
    arrays = {"w": weights(8, 3, 3, 3), "v": weights(8, 1, 3, 3), "u": weights(8, 8, 1, 1), "m": weights(8, 5)}
    assert steps(in_int8(network(body, "float[n, 5]", arrays), signed=signed)) < 1.01
