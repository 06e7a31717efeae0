"""What ships computes the same, and can be looked at layer by layer again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantnets import batches, ops, parse, run

from xxdeploy.lowering.center_pixels import CENTERED, shift_input
from xxdeploy.lowering.x86_file import from_x86_file, to_x86_file
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.x86.saturation import integer_layers
from xxdeploy.runtime.image.grid import PixelGrid
from xxdeploy.runtime.image.preprocess import Preprocess

STEP, CENTER = 1 / 127.5, 127.5
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 16, 16, 3] image) => (float[n, 6] y)
{ x = Transpose<perm = [0, 3, 1, 2]>(image)
  a = Conv<strides = [2, 2], kernel_shape = [3, 3], pads = [0, 0, 1, 1]>(x, w, b)  r = Relu(a)
  l = Conv<group = 16, pads = [1, 1, 1, 1]>(r, v)  m = Conv<group = 16, pads = [1, 1, 1, 1]>(r, t)
  both = Concat<axis = 1>(l, m)  s = Conv(both, k)
  p = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(s)  d = Add(p, p)  e = Relu(d)
  c = Conv(e, j)  q = GlobalAveragePool(c)  f = Flatten(q)  y = Gemm<transB = 1>(f, u) }"""
SHAPES = {
    "w": (16, 3, 3, 3), "b": (16,), "v": (16, 1, 3, 3), "t": (16, 1, 3, 3), "k": (8, 32, 1, 1), "j": (16, 8, 1, 1),
    "u": (6, 16),
}  # fmt: skip


def quantized() -> OnnxModel:
    rng = np.random.default_rng(0)
    model = parse(TEXT, {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()})
    model, _ = optimize(model, [lambda graph: shift_input(graph, STEP / 2)])
    calibrated = calibrate(model, batches(Preprocess(16, 16).normalize(pictures())), data_digest="d")
    ranges = {**calibrated.ranges, CENTERED: (-127 * STEP, 128 * STEP)}
    return quantize(model, replace(calibrated, ranges=ranges), scheme("static-w8c-a8"))


def pictures() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("optimize", [False, True])
def test_it_is_the_same_there_and_back(optimize: bool) -> None:
    model = quantized()
    shipped = to_x86_file(model, PixelGrid(STEP, CENTER), any_order=True)
    back = from_x86_file(shipped)
    count = ops(shipped)
    assert (count["Reshape"], count["Add"], count["Concat"]) == (2, 0, 1)  # every step had something to do
    wanted = run(model, Preprocess(16, 16).normalize(pictures()), optimize=optimize)
    for model in (shipped, back):
        np.testing.assert_array_equal(run(model, pictures(), optimize=optimize), wanted)


def test_layers_are_found_again() -> None:
    model = quantized()
    names = [layer.name for layer in integer_layers(Graph(model))]
    assert len(names) == 6
    shipped = to_x86_file(model, PixelGrid(STEP, CENTER), any_order=True)
    assert [layer.name for layer in integer_layers(Graph(from_x86_file(shipped)))] == names
    assert from_x86_file(model) is model


def test_without_a_grid_the_image_stays_float() -> None:
    shipped = to_x86_file(quantized(), None, any_order=True)
    images = Preprocess(16, 16).normalize(pictures())
    np.testing.assert_array_equal(run(shipped, images), run(quantized(), images))
