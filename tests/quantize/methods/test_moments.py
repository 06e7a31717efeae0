"""Moments of a layer's inputs, against patches that are cut out one by one and against ONNX Runtime's convolution."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from quantnets import parse, run

from xxdeploy.quantize.methods.moments import POSITIONS, Moments, measure_moments, taps_of

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
Floats = NDArray[np.float32]

CONVOLUTIONS = [
    "",
    "pads = [1, 1, 1, 1]",
    "strides = [2, 3]",
    "strides = [2, 1], pads = [1, 0, 2, 3]",
    "dilations = [2, 1]",
    "dilations = [1, 2], pads = [2, 2, 2, 2], strides = [3, 2]",
    "group = 2",
    "group = 6, pads = [1, 1, 1, 1], strides = [2, 2]",
    'auto_pad = "VALID", strides = [2, 2]',
    'auto_pad = "NOTSET", pads = [0, 1, 1, 0]',
    'auto_pad = "SAME_UPPER"',
    'auto_pad = "SAME_UPPER", strides = [2, 2]',
    'auto_pad = "SAME_LOWER", strides = [2, 2], group = 3',
    'auto_pad = "SAME_LOWER", strides = [2, 3]',
]


def layer(options: str, weights: Floats, op: str = "Conv") -> onnx.NodeProto:
    """Return a node with these attributes."""
    shape = "[n, 6, 9, 10]" if op == "Conv" else "[n, 12]"
    text = f"g (float{shape} x) => (float{'[n, c, h, w]' if op == 'Conv' else '[n, c]'} y) {{ y = {op}"
    text += (f"<{options}>" if options else "") + "(x, w) }"
    node: onnx.NodeProto = parse(HEAD + text, {"w": weights}).proto().graph.node[0]
    return node


def convolve(options: str, weights: Floats, values: Floats) -> Floats:
    """Return what ONNX Runtime makes of it."""
    text = f"g (float[n, 6, 9, 10] x) => (float[n, c, h, w] y) {{ y = Conv{f'<{options}>' if options else ''}(x, w) }}"
    return run(parse(HEAD + text, {"w": weights}), values)


def patches_of(options: str, size: tuple[int, int], groups: int, values: Floats) -> Floats:
    """Return every patch (n, positions, groups, taps): ONNX Runtime with weights that pick one tap each."""
    taps = values.shape[1] // groups * size[0] * size[1]
    picks = np.eye(taps, dtype=np.float32).reshape(taps, values.shape[1] // groups, *size)
    out = convolve(options, np.tile(picks, (groups, 1, 1, 1)), values)
    return np.ascontiguousarray(out.reshape(len(values), groups, taps, -1).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(3, 3), (1, 1), (2, 4)])
@pytest.mark.parametrize("count", [1, 8])
def test_convolutions(options: str, size: tuple[int, int], count: int) -> None:
    rng = np.random.default_rng(0)
    groups = int(options.split("group = ")[1][0]) if "group" in options else 1
    weights = rng.standard_normal((6, 6 // groups, *size)).astype(np.float32)
    values = rng.uniform(0, 1, (count, 6, 9, 10)).astype(np.float32)
    node = layer(options, weights)
    measured = measure_moments(node, weights, values, seed=0)
    patches = patches_of(options, size, groups, values)
    np.testing.assert_allclose(measured.means, patches.mean(axis=1), rtol=1e-5, atol=1e-6)  # of every position

    per_image = measured.count // len(values)
    assert measured.count == per_image * len(values)
    assert per_image >= min(POSITIONS, patches.shape[1])
    first, second = patches.sum(axis=(0, 1)), np.einsum("npgt,npgu->gtu", patches, patches)
    if per_image == patches.shape[1]:
        np.testing.assert_allclose(measured.first, first, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(measured.second, second, rtol=1e-4, atol=1e-5)
    else:  # a sample of the same patches, not of others
        total = len(values) * patches.shape[1]
        size_of = np.sqrt(np.einsum("gtt->gt", second) / total)
        differs = np.abs(measured.second / measured.count - second / total)
        assert (differs <= 0.5 * size_of[:, :, None] * size_of[:, None, :]).all()


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_means_foretell_the_mean_of_the_output(options: str) -> None:
    rng = np.random.default_rng(1)
    groups = int(options.split("group = ")[1][0]) if "group" in options else 1
    weights = rng.standard_normal((12, 6 // groups, 3, 3)).astype(np.float32)
    values = rng.standard_normal((3, 6, 9, 10)).astype(np.float32)
    node = layer(options, weights)
    measured = measure_moments(node, weights, values, seed=0)
    outputs = np.einsum("ngt,got->ngo", measured.means, weights.reshape(taps_of(node, weights))).reshape(3, 12)
    np.testing.assert_allclose(outputs, convolve(options, weights, values).mean(axis=(2, 3)), atol=2e-5)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((7, 12) if transposed else (12, 7)).astype(np.float32)
    values = rng.standard_normal((9, 12)).astype(np.float32)
    node = layer(f"transB = {transposed}", weights, "Gemm")
    assert taps_of(node, weights) == (1, 7, 12)
    measured = measure_moments(node, weights, values, seed=0)
    np.testing.assert_array_equal(measured.means, values[:, None, :])
    assert measured.count == 9
    np.testing.assert_allclose(measured.first[0], values.sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(measured.second[0], values.T @ values, atol=1e-5)
    np.testing.assert_allclose(measured.covariance[0], np.cov(values.T, bias=True), atol=1e-5)


def test_taps_of_convolutions() -> None:
    weights = np.zeros((6, 6, 3, 2), np.float32)
    assert taps_of(layer("", weights), weights) == (1, 6, 36)
    depthwise = np.zeros((12, 1, 3, 3), np.float32)
    assert taps_of(layer("group = 6", depthwise), depthwise) == (6, 2, 9)


def test_batches_add_up() -> None:
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((6, 6, 1, 1)).astype(np.float32)
    values = rng.standard_normal((10, 6, 4, 5)).astype(np.float32)  # 20 positions: all are looked at
    node = layer("", weights)
    whole = measure_moments(node, weights, values, seed=0)
    parts = measure_moments(node, weights, values[:3], seed=1) + measure_moments(node, weights, values[3:], seed=2)
    assert parts.count == whole.count == 200
    for name in ("means", "first", "second", "covariance"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-5, err_msg=name)


def test_large_layers_look_at_more_positions_and_a_seed_repeats() -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((2, 6, 30, 30)).astype(np.float32)
    small, large = (rng.standard_normal((4, 6, k, k)).astype(np.float32) for k in (1, 5))
    one = measure_moments(layer("", small), small, values, seed=0)
    many = measure_moments(layer("", large), large, values, seed=0)
    assert one.count == 2 * POSITIONS
    assert many.count == 2 * 150  # as many patches as twice the taps
    assert (measure_moments(layer("", large), large, values, seed=0).second == many.second).all()
    assert (measure_moments(layer("", large), large, values, seed=1).second != many.second).any()


def test_covariance_of_a_constant_is_nothing() -> None:
    weights = np.ones((6, 6, 1, 1), np.float32)
    values = np.full((8, 6, 9, 10), 5.3, np.float32)
    measured = measure_moments(layer("", weights), weights, values, seed=0)
    np.testing.assert_allclose(measured.covariance, 0, atol=1e-4)
    np.testing.assert_allclose(measured.means, 5.3, rtol=1e-6)
    assert isinstance(measured, Moments)
