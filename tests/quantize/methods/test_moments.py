"""Moments of a layer's inputs, against patches that are cut out one by one and against ONNX Runtime's convolution."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from quantnets import parse, run

from xxdeploy.quantize.methods.moments import PER_TAP, POSITIONS, covariance, has_patches, look_at_patches, taps_of

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
    looked = look_at_patches(node, weights, values, images=count, seed=(0,))
    patches = patches_of(options, size, groups, values)
    np.testing.assert_allclose(looked.means, patches.mean(axis=1), rtol=1e-5, atol=1e-6)  # of every position

    per_image = len(looked.sample) // count
    assert len(looked.sample) == per_image * count
    assert per_image == min(patches.shape[1], max(POSITIONS, -(-PER_TAP * patches.shape[3] // count)))
    sampled, every = looked.sample.reshape(count, per_image, -1), patches.reshape(count, patches.shape[1], -1)
    for image in range(count):  # each is a patch of its image, and none is taken twice
        rows = [int(np.abs(every[image] - patch).max(axis=1).argmin()) for patch in sampled[image]]
        np.testing.assert_array_equal(sampled[image], every[image][rows])
        assert len(set(rows)) == len(np.unique(sampled[image], axis=0))  # patches of padding alone are alike


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_means_foretell_the_mean_of_the_output(options: str) -> None:
    rng = np.random.default_rng(1)
    groups = int(options.split("group = ")[1][0]) if "group" in options else 1
    weights = rng.standard_normal((12, 6 // groups, 3, 3)).astype(np.float32)
    values = rng.standard_normal((3, 6, 9, 10)).astype(np.float32)
    node = layer(options, weights)
    looked = look_at_patches(node, weights, values, images=0, seed=(0,))
    assert not looked.sample.size
    outputs = np.einsum("ngt,got->ngo", looked.means, weights.reshape(taps_of(node, weights))).reshape(3, 12)
    np.testing.assert_allclose(outputs, convolve(options, weights, values).mean(axis=(2, 3)), atol=2e-5)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((7, 12) if transposed else (12, 7)).astype(np.float32)
    values = rng.standard_normal((9, 12)).astype(np.float32)
    node = layer(f"transB = {transposed}", weights, "Gemm")
    assert taps_of(node, weights) == (1, 7, 12)
    looked = look_at_patches(node, weights, values, images=9, seed=(0,))
    np.testing.assert_array_equal(looked.means, values[:, None, :])
    np.testing.assert_array_equal(looked.sample, values[:, None, :])
    np.testing.assert_allclose(covariance([looked])[0], np.cov(values.T, bias=True), atol=1e-5)
    assert has_patches(node, weights)
    assert not has_patches(layer(f"transB = {transposed}, alpha = 2.0", weights, "Gemm"), weights)


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
    whole = look_at_patches(node, weights, values, images=10, seed=(0,))
    parts = [look_at_patches(node, weights, part, images=10, seed=(1,)) for part in (values[:3], values[3:])]
    assert len(whole.sample) == sum(len(part.sample) for part in parts) == 200
    np.testing.assert_array_equal(np.concatenate([part.means for part in parts]), whole.means)
    rows = values.transpose(0, 2, 3, 1).reshape(-1, 6)
    for patches in ([whole], parts):
        np.testing.assert_allclose(covariance(patches)[0], np.cov(rows.T, bias=True), rtol=1e-4, atol=1e-5)


def test_large_layers_look_at_more_positions_and_a_seed_repeats() -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((2, 6, 30, 30)).astype(np.float32)
    small, large = (rng.standard_normal((4, 6, k, k)).astype(np.float32) for k in (1, 5))

    def sample(weights: Floats, images: int, seed: int = 0) -> Floats:
        return look_at_patches(layer("", weights), weights, values, images=images, seed=(seed,)).sample

    assert len(sample(small, 2)) == 2 * POSITIONS
    assert len(sample(large, 2)) == 2 * 300  # four patches for each of 150 taps, from two images
    assert len(sample(large, 20)) == 2 * 30  # the other images bring the others
    np.testing.assert_array_equal(sample(large, 2), sample(large, 2))
    assert (sample(large, 2) != sample(large, 2, seed=1)).any()


def test_covariance_of_a_constant_is_nothing() -> None:
    weights = np.ones((6, 6, 1, 1), np.float32)
    values = np.full((8, 6, 9, 10), 5.3, np.float32)
    looked = look_at_patches(layer("", weights), weights, values, images=8, seed=(0,))
    assert not covariance([looked]).any()
    np.testing.assert_allclose(looked.means, 5.3, rtol=1e-6)
