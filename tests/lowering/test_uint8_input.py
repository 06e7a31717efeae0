"""An INT8 model on pixels computes what the one on scaled images computes, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantnets import batches, ops, parse, run

from xxdeploy.errors import EngineError
from xxdeploy.lowering.center_pixels import CENTERED, shift_input
from xxdeploy.lowering.uint8_input import take_uint8_input
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.runtime.engines.openvino.session import OpenVinoSession
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.image.grid import METADATA
from xxdeploy.runtime.image.preprocess import Preprocess

NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 16, 16, 3] image) => (float[n, 6] y)
{ x = Transpose<perm = [0, 3, 1, 2]>(image)  a = Conv<pads = [0, 0, 1, 1], strides = [2, 2]>(x, w, b)  r = Relu(a)
  m = GlobalAveragePool(r)  f = Flatten(m)  y = Gemm<transB = 1>(f, v) }"""
STEP, CENTER = 1 / 127.5, 127.5


def network() -> OnnxModel:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((8, 3, 3, 3)), "b": rng.standard_normal(8), "v": rng.standard_normal((6, 8))}
    return parse(NETWORK, {name: array.astype(np.float32) for name, array in arrays.items()})


def pictures() -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3))
    pixels[0] = np.arange(256).reshape(16, 16, 1)  # every value there is
    return pixels.astype(np.uint8)


def int8(mode: str = "tf", name: str = "static-w8c-a8") -> tuple[OnnxModel, OnnxModel]:
    """Return a float model, shifted for mode ``tf``, and its INT8 model over the pixels' grid."""
    model = network()
    if mode == "tf":
        model, _ = optimize(model, [lambda graph: shift_input(graph, STEP / 2)])
    images = Preprocess(16, 16, mode=mode).normalize(pictures())
    calibrated = calibrate(model, batches(images), data_digest="d")
    image, span = (CENTERED, (-127 * STEP, 128 * STEP)) if mode == "tf" else ("image", (0.0, 255.0))
    return model, quantize(model, replace(calibrated, ranges={**calibrated.ranges, image: span}), scheme(name))


@pytest.mark.parametrize(("mode", "grid"), [("tf", (STEP, CENTER)), ("none", (1.0, 0.0))])
def test_every_pixel_is_its_integer(mode: str, grid: tuple[float, float]) -> None:
    _, quantized = int8(mode)
    taken = take_uint8_input(quantized, *grid)
    assert taken.proto().graph.input[0].type.tensor_type.elem_type == 2
    assert (ops(taken)["Sub"], ops(taken)["QuantizeLinear"]) == (0, ops(quantized)["QuantizeLinear"] - 1)
    images = Preprocess(16, 16, mode=mode).normalize(pictures())
    np.testing.assert_array_equal(run(taken, pictures()), run(quantized, images))


def test_the_session_takes_pixels_and_scaled_images() -> None:
    _, quantized = int8()
    session = OrtSession(take_uint8_input(quantized, STEP, CENTER).to_bytes())
    assert session.takes_pixels
    images = Preprocess(16, 16).normalize(pictures())
    np.testing.assert_array_equal(session.run(pictures()), session.run(images))
    assert not OrtSession(quantized.to_bytes()).takes_pixels


def test_openvino_takes_them_too() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    model = take_uint8_input(int8()[1], STEP, CENTER)
    session = OpenVinoSession(model.to_bytes(), threads=1)
    assert session.takes_pixels
    np.testing.assert_array_equal(session.run(pictures()), session.run(Preprocess(16, 16).normalize(pictures())))
    wanted = OrtSession(model.to_bytes()).run(pictures())
    np.testing.assert_allclose(session.run(pictures()), wanted, atol=0.05 * np.abs(wanted).max())


def test_the_shift_loses_nothing_that_rounding_did_not() -> None:
    model, quantized = int8()
    images = Preprocess(16, 16).normalize(pictures())
    wanted = run(network(), images)
    np.testing.assert_allclose(run(model, images), wanted, atol=0.01 * np.abs(wanted).max())
    np.testing.assert_allclose(run(quantized, images), wanted, atol=0.03 * np.abs(wanted).max())


def test_other_grids_and_signed_integers_stay() -> None:
    _, quantized = int8()
    for step, center in ((STEP * 1.01, CENTER), (STEP, 127.0), (STEP, 128.5), (1.0, 0.0)):
        assert take_uint8_input(quantized, step, center) is quantized
    _, signed = int8(name="static-w8c-a8i")
    assert take_uint8_input(signed, STEP, CENTER) is signed
    assert take_uint8_input(network(), STEP, CENTER).to_bytes() == network().to_bytes()


@pytest.mark.parametrize("value", [None, "[]", '{"step": 0, "center": 1}', '{"step": 1e999, "center": 0}', "{"])
def test_a_model_of_bytes_that_does_not_say_what_they_mean_is_refused(value: str | None) -> None:
    proto, arrays = take_uint8_input(int8()[1], STEP, CENTER).split()
    assert proto.metadata_props[0].key == METADATA
    del proto.metadata_props[:]
    if value is not None:
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA, value
    with pytest.raises(EngineError) as caught:
        OrtSession(OnnxModel.join(proto, arrays).to_bytes())
    assert caught.value.code == "engine-signature"
