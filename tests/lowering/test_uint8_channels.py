"""Where each channel is scaled by itself, an INT8 model on pixels computes the same, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from quantnets import batches, ops, parse, run

from xxdeploy.lowering.center_pixels import CENTERED, center_pixels
from xxdeploy.lowering.uint8_channels import take_uint8_channels
from xxdeploy.lowering.x86_file import from_x86_file, to_x86_file
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.x86.saturation import integer_layers
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.image.grid import MIDDLE, ChannelGrid, grid_from
from xxdeploy.runtime.image.preprocess import Preprocess

PADS = ("", "pads = [3, 3, 3, 3], ", "pads = [0, 1, 2, 0], ")


def grid_of(mode: str) -> ChannelGrid:
    grid = Preprocess(16, 16, mode=mode).channel_grid
    assert grid is not None
    return grid


def quantized(mode: str, pads: str = PADS[1], name: str = "static-w8c-a8", *, signed: bool = False) -> OnnxModel:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((8, 3, 7, 7)), "b": rng.standard_normal(8), "v": rng.standard_normal((6, 8))}
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 16, 16, 3] image) => (float[n, 6] y)
    {{ x = Transpose<perm = [0, 3, 1, 2]>(image)  a = Conv<{pads}strides = [2, 2]>(x, w, b)  r = Relu(a)
      m = GlobalAveragePool(r)  f = Flatten(m)  y = Gemm<transB = 1>(f, v) }}"""
    model = parse(text, {key: array.astype(np.float32) for key, array in arrays.items()})
    model, records = optimize(model, [lambda graph: center_pixels(graph, grid_of(mode))])
    assert records[0].facts["changed"] == 1
    calibrated = calibrate(model, batches(Preprocess(16, 16, mode=mode).normalize(pictures())), data_digest="d")
    ranges = {**calibrated.ranges, CENTERED: (-float(MIDDLE), 255.0 - MIDDLE)}
    return quantize(model, replace(calibrated, ranges=ranges), replace(scheme(name), signed=signed))


def pictures() -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3))
    pixels[0] = np.arange(256).reshape(16, 16, 1)  # every value there is
    return pixels.astype(np.uint8)


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("mode", ["caffe", "torch"])
def test_every_pixel_is_its_integer(mode: str, pads: str, optimize: bool) -> None:
    before = quantized(mode, pads)
    after = to_x86_file(before, grid_of(mode), any_order=True)
    assert after.proto().graph.input[0].type.tensor_type.elem_type == 2
    assert not {"Pad", "Gather", "Div", "Sub"} & ops(after).keys()
    assert ops(after)["Concat"] == (3 if pads else 0)
    scaled = Preprocess(16, 16, mode=mode).normalize(pictures())
    wanted = run(before, scaled, optimize=optimize)
    np.testing.assert_array_equal(run(after, pictures(), optimize=optimize), wanted)
    session = OrtSession(after.to_bytes(), optimize=optimize)
    assert session.takes_pixels
    np.testing.assert_array_equal(session.run(scaled), wanted)
    np.testing.assert_array_equal(run(from_x86_file(after), pictures(), optimize=optimize), wanted)


def test_a_file_for_arm_takes_bytes_too() -> None:
    before = quantized("torch", signed=True)
    after = take_uint8_channels(before, grid_of("torch"))
    wanted = run(before, Preprocess(16, 16, mode="torch").normalize(pictures()))
    np.testing.assert_array_equal(run(after, pictures()), wanted)


def test_openvino_takes_them_too() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from xxdeploy.runtime.engines.openvino.session import OpenVinoSession

    after = to_x86_file(quantized("caffe"), grid_of("caffe"), any_order=True)
    session = OpenVinoSession(after.to_bytes(), threads=1)
    wanted = OrtSession(after.to_bytes()).run(pictures())
    for count in (1, 4):
        np.testing.assert_allclose(session.run(pictures()[:count]), wanted[:count], atol=0.05 * np.abs(wanted).max())


def test_the_first_layer_is_found_behind_its_border() -> None:
    before = quantized("caffe")
    names = [layer.name for layer in integer_layers(Graph(before))]
    after = from_x86_file(to_x86_file(before, grid_of("caffe"), any_order=True))
    assert [layer.name for layer in integer_layers(Graph(after))] == names


def test_other_models_stay() -> None:
    model = quantized("caffe")
    taken = take_uint8_channels(model, grid_of("caffe"))
    assert take_uint8_channels(taken, grid_of("caffe")) is taken


@pytest.mark.parametrize(
    "text",
    [
        None, "", "7", "{}", '{"mean": [1], "deviation": [1, 2], "flip": true}', '{"mean": [1], "deviation": [1]}',
        '{"mean": [1], "deviation": [0], "flip": true}', '{"mean": [], "deviation": [], "flip": false}',
        '{"mean": [NaN], "deviation": [1], "flip": true}', '{"mean": [1], "deviation": [1], "flip": 1}',
    ],
)  # fmt: skip
def test_damaged_metadata(text: str | None) -> None:
    assert grid_from(text) is None
    grid = grid_of("torch")
    assert grid_from(json.dumps(grid.to_json())) == grid


@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("mode", ["caffe", "torch"])
def test_a_litert_file_reads_the_same_pixels(mode: str, pads: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install 'xxdeploy[litert]': there is no LiteRT to run the file")
    from xxdeploy.lowering.litert.write import to_litert
    from xxdeploy.runtime.engines.litert import LitertSession

    before, grid = quantized(mode, pads), grid_of(mode)
    session = LitertSession(to_litert(before, grid), threads=1)
    assert session.takes_pixels
    answer = session.run(pictures())
    np.testing.assert_allclose(answer, run(before, Preprocess(16, 16, mode=mode).normalize(pictures())), rtol=0.02)
