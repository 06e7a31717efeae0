"""Rounding and biases tuned layer by layer: what comes out, and that it is better on other images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, images, pair_excess, parse, reconstructed, residual, run, with_biases

from xxdeploy.errors import UsageError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.methods.bias_correction import give_biases, mean_shift
from xxdeploy.quantize.methods.method import Draft
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import Progress, Ranges

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
U8S8 = scheme("static-w8c-a8")
U8S7 = scheme("static-w7c-a8")
LAYERS = {
    "stem": "stem_w",
    "wide": "wide_w",
    "deep": "deep_w",
    "thin": "thin_w",
    "grouped": "grouped_w",
    "logits": "head_w",
}


def smooth(count: int, seed: int, size: int = 16) -> NDArray[np.float32]:
    """Return images whose neighbors resemble each other, as those of real images do."""
    batch = np.random.default_rng(seed).standard_normal((count, size + 8, size + 8, 3))
    for axis in (1, 2):
        sums = batch.cumsum(axis=axis)
        batch = np.take(sums, range(8, size + 8), axis=axis) - np.take(sums, range(size), axis=axis)
    return np.clip(batch / 10, -1, 1).astype(np.float32)


def calibrated(model: OnnxModel, batch: NDArray[np.float32]) -> Ranges:
    return calibrate(model, batches(batch), data_digest="images")


def nearest(model: OnnxModel, ranges: Ranges, asked: Scheme) -> dict[str, NDArray[np.int8]]:
    """Return the integers of each layer as they are without a rounding."""
    constants = Graph(quantize(model, ranges, asked)).constants
    return {layer: constants[f"{weight}_quantized"] for layer, weight in LAYERS.items()}


@pytest.fixture(scope="module")
def ranges(model: OnnxModel) -> Ranges:
    return calibrated(model, smooth(32, 1))


@pytest.fixture(scope="module")
def rounded(model: OnnxModel, ranges: Ranges) -> Draft:
    return reconstructed(model, ranges, U8S7, batches(smooth(32, 1)), rounding=True)


def test_integers_are_one_of_two_neighbors(model: OnnxModel, ranges: Ranges, rounded: Draft) -> None:
    plain = nearest(rounded.model, ranges, U8S7)
    assert rounded.rounding.keys() == LAYERS.keys()
    for layer, values in rounded.rounding.items():
        assert values.dtype == np.int8
        assert values.shape == plain[layer].shape
        moved = np.abs(values.astype(int) - plain[layer])
        assert moved.max() == 1, layer
        assert moved.mean() < 0.5, layer
        assert np.abs(values.astype(int)).max() <= 64


def test_biases_are_corrected_behind_the_new_weights(model: OnnxModel, ranges: Ranges, rounded: Draft) -> None:
    """The definition: the layer with its old bias, all before it final, compared with float image by image."""
    proto, arrays = rounded.model.split()
    old = give_biases(model, U8S7).split()[1]
    expected = Observer(Graph(model), LAYERS).run(smooth(32, 1))
    for layer in LAYERS:
        before = OnnxModel.join(proto, {**arrays, f"{layer}_bias": old[f"{layer}_bias"]})
        quantized = quantize(before, ranges, U8S7, rounding=rounded.rounding)
        seen = Observer(Graph(quantized), [layer]).run(smooth(32, 1))[layer]
        differs = (expected[layer].astype(np.float64) - seen).reshape(*seen.shape[:2], -1).mean(axis=2)
        wanted = old[f"{layer}_bias"] + mean_shift(differs)
        np.testing.assert_allclose(arrays[f"{layer}_bias"], wanted, atol=1e-4, err_msg=layer)


def test_the_output_on_other_images_comes_closer() -> None:
    errors = np.zeros(3)
    for seed in (15, 16, 22, 28):
        network = residual(seed)
        ranges = calibrated(network, smooth(48, 1))
        batch = smooth(96, 2)
        wanted = np.log(run(network, batch) + 1e-7)
        corrected = with_biases(network, ranges, U8S7, batches(smooth(48, 1)))
        tuned = reconstructed(network, ranges, U8S7, batches(smooth(48, 1)), rounding=True)
        candidates = (
            quantize(network, ranges, U8S7),
            quantize(corrected, ranges, U8S7),
            quantize(tuned.model, ranges, U8S7, rounding=tuned.rounding),
        )
        errors += [float(np.mean((np.log(run(candidate, batch) + 1e-7) - wanted) ** 2)) for candidate in candidates]
    plain, biases, both = errors
    assert both < 0.9 * biases  # what is left is the noise of 8-bit activations
    assert biases < plain


def test_one_layer_alone_computes_its_output_better() -> None:
    """Only the weights are rounded on purpose here: input and output have 8 bits, the weights are what hurts."""
    rng = np.random.default_rng(3)
    network = parse(
        HEAD + "g (float[n, 16, 16, 3] x) => (float[n, 24] y)"
        "{ t = Transpose<perm = [0, 3, 1, 2]>(x)  c = Conv<strides = [2, 2]>(t, w)  m = GlobalMaxPool(c)"
        "  f = Flatten(m)  y = Gemm<transB = 1>(f, v) }",
        {
            "w": (rng.standard_normal((24, 3, 5, 5)) * rng.choice([1, 20], (24, 1, 1, 1))).astype(np.float32),
            "v": np.eye(24, dtype=np.float32),
        },
    )
    ranges = calibrated(network, smooth(48, 1))
    tuned = reconstructed(network, ranges, U8S7, batches(smooth(48, 1)), rounding=True)
    corrected = with_biases(network, ranges, U8S7, batches(smooth(48, 1)))
    batch = smooth(64, 5)
    exact = Observer(Graph(network), ["c"]).run(batch)["c"]
    candidates = quantize(corrected, ranges, U8S7), quantize(tuned.model, ranges, U8S7, rounding=tuned.rounding)
    error = [
        np.square(Observer(Graph(candidate), ["c"]).run(batch)["c"] - exact).mean(axis=(0, 2, 3))
        for candidate in candidates
    ]
    assert np.mean(error[1] / error[0]) < 0.6
    assert (error[1] < error[0]).mean() > 0.9


def test_nothing_but_biases_changes_in_the_float_model(model: OnnxModel, rounded: Draft) -> None:
    old, new = model.split()[1], rounded.model.split()[1]
    for name in old.keys() & new.keys():
        np.testing.assert_array_equal(new[name], old[name])
    assert new.keys() - old.keys() == {f"{layer}_bias" for layer in LAYERS}


@pytest.mark.parametrize("seed", [0, 1])
def test_narrow_layers_stay_safe(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = parse(
        HEAD + "g (float[n, 16, 16, 3] x) => (float[n, 10] y)"
        "{ t = Transpose<perm = [0, 3, 1, 2]>(x)  stem = Conv(t, stem_w)  r = Relu(stem)  wide = Conv(r, wide_w)"
        "  m = GlobalAveragePool(wide)  f = Flatten(m)  y = Gemm<transB = 1>(f, head_w) }",
        {
            "stem_w": rng.uniform(0.2, 1, (8, 3, 3, 3)).astype(np.float32),  # neighbors of one sign
            "wide_w": rng.uniform(0.2, 1, (16, 8, 1, 1)).astype(np.float32),
            "head_w": rng.uniform(0.2, 1, (10, 16)).astype(np.float32),
        },
    )
    asked = replace(U8S8, narrow_layers=frozenset({"all"}))
    ranges = calibrated(network, smooth(16, 1))
    tuned = reconstructed(network, ranges, asked, batches(smooth(16, 1)), rounding=True)
    stored = Graph(quantize(tuned.model, ranges, asked, rounding=tuned.rounding)).constants
    for layer, weight in {"stem": "stem_w", "wide": "wide_w", "y": "head_w"}.items():
        np.testing.assert_array_equal(stored[f"{weight}_quantized"], tuned.rounding[layer])
        assert not pair_excess(tuned.rounding[layer], 0).any(), layer
    wide = reconstructed(network, ranges, U8S8, batches(smooth(16, 1)), rounding=True)
    assert any(pair_excess(each, 0).any() for each in wide.rounding.values())  # else nothing was tested


def test_layers_in_float_are_not_rounded(model: OnnxModel, ranges: Ranges) -> None:
    mixed = replace(U8S7, float_layers=frozenset({"deep"}))
    tuned = reconstructed(model, ranges, mixed, batches(smooth(8, 1)), rounding=True)
    assert tuned.rounding.keys() == LAYERS.keys() - {"deep"}
    quantize(tuned.model, ranges, mixed, rounding=tuned.rounding)


def test_a_dead_channel(model: OnnxModel, ranges: Ranges) -> None:
    proto, arrays = residual().split()
    dead = {name: value.copy() for name, value in arrays.items()}
    dead["wide_w"][3] = 0
    dead["wide_b"][3] = -1  # so what deep reads of it is zero
    dead["deep_w"][5] = 0
    network = OnnxModel.join(proto, dead)
    tuned = reconstructed(network, ranges, U8S7, batches(smooth(16, 1)), rounding=True)
    assert not tuned.rounding["wide"][3].any()
    assert not tuned.rounding["deep"][5].any()
    plain = nearest(network, ranges, U8S7)
    np.testing.assert_array_equal(tuned.rounding["deep"][3], plain["deep"][3])  # its input never moves
    np.testing.assert_array_equal(tuned.rounding["thin"][:, 3], plain["thin"][:, 3])
    assert all(np.isfinite(value).all() for value in tuned.model.split()[1].values() if value.dtype.kind == "f")


def test_one_image(model: OnnxModel, ranges: Ranges) -> None:
    batch = smooth(1, 1)
    tuned = reconstructed(model, ranges, U8S7, batches(batch), rounding=True)
    plain = nearest(tuned.model, ranges, U8S7)
    np.testing.assert_array_equal(tuned.rounding["logits"], plain["logits"])  # one image says nothing of variance
    assert (tuned.rounding["wide"] != plain["wide"]).any()  # its positions do
    quantized = quantize(tuned.model, ranges, U8S7, rounding=tuned.rounding)
    assert np.abs(run(quantized, batch) - run(model, batch)).max() < 0.02


def test_an_input_that_never_changes() -> None:
    rng = np.random.default_rng(4)
    network = parse(
        HEAD + "g (float[n, 8, 6, 6] x) => (float[n, 4, 6, 6] y) { a = Conv(x, w)  r = Relu(a)  y = Conv(r, v) }",
        {"w": rng.standard_normal((16, 8, 1, 1)).astype(np.float32), "v": rng.random((4, 16, 1, 1), np.float32)},
    )
    batch = np.full((12, 8, 6, 6), 0.37, np.float32)
    ranges = calibrated(network, batch)
    tuned = reconstructed(network, ranges, U8S7, batches(batch), rounding=True)
    plain = Graph(quantize(network, ranges, U8S7)).constants
    np.testing.assert_array_equal(tuned.rounding["a"], plain["w_quantized"])
    np.testing.assert_array_equal(tuned.rounding["y"], plain["v_quantized"])
    quantized = quantize(tuned.model, ranges, U8S7, rounding=tuned.rounding)
    np.testing.assert_allclose(run(quantized, batch), run(network, batch), atol=0.02)


def test_a_convolution_over_one_axis_is_rounded_to_the_nearest() -> None:
    rng = np.random.default_rng(5)
    network = parse(
        HEAD + "g (float[n, 4, 16] x) => (float[n, 4, 16] y) { a = Conv<pads = [1, 1]>(x, w)  y = Relu(a) }",
        {"w": rng.standard_normal((4, 4, 3)).astype(np.float32)},
    )
    batch = rng.standard_normal((8, 4, 16)).astype(np.float32)
    tuned = reconstructed(network, calibrated(network, batch), U8S8, batches(batch), rounding=True)
    assert not tuned.rounding
    assert "a_bias" in tuned.model.split()[1]


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_in_either_layout(transposed: int) -> None:
    rng = np.random.default_rng(6)
    weights = rng.standard_normal((20, 8)).astype(np.float32)
    network = parse(
        HEAD + f"g (float[n, 20] x) => (float[n, 8] y) {{ y = Gemm<transB = {transposed}>(x, w) }}",
        {"w": weights.T.copy() if transposed else weights},
    )
    batch = (rng.standard_normal((200, 3)) @ rng.standard_normal((3, 20))).astype(np.float32)
    ranges = calibrated(network, batch)
    tuned = reconstructed(network, ranges, U8S7, batches(batch), rounding=True)
    plain, better = quantize(network, ranges, U8S7), quantize(tuned.model, ranges, U8S7, rounding=tuned.rounding)
    error = [float(np.square(run(each, batch) - batch @ weights).mean()) for each in (plain, better)]
    assert error[1] < 0.7 * error[0]


@pytest.mark.parametrize("rounding", [False, True])
def test_progress_and_repetition(model: OnnxModel, ranges: Ranges, rounding: bool) -> None:
    seen: list[Progress] = []
    first = reconstructed(model, ranges, U8S7, batches(images(9)), rounding=rounding, on_progress=seen.append)
    second = reconstructed(model, ranges, U8S7, batches(images(9)), rounding=rounding)
    assert [(each.done, each.total) for each in seen] == [(done, 6) for done in range(1, 7)]
    assert {"round weights" in each.step for each in seen} == {rounding}
    assert first.model == second.model
    assert first.rounding.keys() == second.rounding.keys()
    assert all((first.rounding[layer] == second.rounding[layer]).all() for layer in first.rounding)


def test_no_images(model: OnnxModel, ranges: Ranges) -> None:
    with pytest.raises(UsageError) as caught:
        reconstructed(model, ranges, U8S8, batches(images(0)), rounding=True)
    assert caught.value.code == "no-calibration-images"
