from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, images, parse, residual, run, with_biases

from xxdeploy.errors import UsageError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.methods.bias_correction import give_biases, mean_shift
from xxdeploy.quantize.methods.method import Draft, MethodContext
from xxdeploy.quantize.methods.reconstruct import reconstruct
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.results import Progress, Ranges

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
U8S8 = scheme("static-w8c-a8")
U8S7 = scheme("static-w7c-a8")
LAYERS = ("stem", "wide", "deep", "thin", "grouped", "logits")


def image_means(model: OnnxModel, names: Sequence[str], batch: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each named tensor over its positions, image by image (images, channels)."""
    values = Observer(Graph(model), names).run(batch)
    return {
        name: value.reshape(*value.shape[:2], -1).mean(axis=2, dtype=np.float64)
        for name, value in values.items()
        if name in names
    }


@pytest.fixture(scope="module")
def corrected(model: OnnxModel, calibrated: Ranges) -> OnnxModel:
    return with_biases(model, calibrated, U8S7, batches(images()))


def test_layer_means_agree_with_float(model: OnnxModel, calibrated: Ranges, corrected: OnnxModel) -> None:
    expected = image_means(model, LAYERS, images())
    before = image_means(quantize(model, calibrated, U8S7), LAYERS, images())
    after = image_means(quantize(corrected, calibrated, U8S7), LAYERS, images())
    for name, mean in expected.items():
        # Not exactly: sixteen images leave doubt about the mean, and the correction is shrunk by it.
        left, first = (np.abs((mean - each[name]).mean(axis=0)) for each in (after, before))
        assert left.max() < 0.35 * first.max(), name
        assert left.sum() < 0.35 * first.sum(), name


def test_the_front_gives_what_running_the_whole_network_for_each_layer_gives(
    model: OnnxModel, calibrated: Ranges, corrected: OnnxModel
) -> None:
    """The definition, the slow way: quantize, run everything, correct one layer, and again."""
    slow = give_biases(model, U8S7)
    expected = image_means(model, LAYERS, images())
    for name, mean in expected.items():
        seen = image_means(quantize(slow, calibrated, U8S7), [name], images())[name]
        proto, arrays = slow.split()
        arrays[f"{name}_bias"] = (arrays[f"{name}_bias"] + mean_shift(mean - seen)).astype(np.float32)
        slow = OnnxModel.join(proto, arrays)
    _, fast = corrected.split()
    for name in LAYERS:
        np.testing.assert_allclose(fast[f"{name}_bias"], slow.split()[1][f"{name}_bias"], atol=2e-5, err_msg=name)


def test_the_analytic_correction_undoes_the_shift_of_rounded_weights(model: OnnxModel, calibrated: Ranges) -> None:
    """The definition: in the float network, with one layer's weights rounded, its mean is what it was."""
    context = MethodContext(batches(images()), QuantizationRecipe(bias_correction="analytic"), U8S7)
    corrected = reconstruct(Draft(model, calibrated), context).model
    biases, integers = corrected.split()[1], quantize(corrected, calibrated, U8S7).split()[1]
    expected = image_means(model, LAYERS, images())
    for name, weight in {name: "head_w" if name == "logits" else f"{name}_w" for name in LAYERS}.items():
        proto, arrays = give_biases(model, U8S7).split()
        values = integers[f"{weight}_quantized"]
        scale = integers[f"{weight}_scale"].reshape([-1, *[1] * (values.ndim - 1)])
        rounded = {weight: (values * scale).astype(np.float32)}
        means = [
            image_means(OnnxModel.join(proto, {**arrays, **rounded, **bias}), [name], images())[name].mean(axis=0)
            for bias in ({}, {f"{name}_bias": biases[f"{name}_bias"]})
        ]
        before, after = (np.abs(mean - expected[name].mean(axis=0)).max() for mean in means)
        assert after < 1e-5 < 1e-4 < before, name


def test_mean_shift_by_hand() -> None:
    column = np.array([9.0, 1.0, 2.0, 3.0, 2.0, 1.0, 3.0, 2.0, 2.0, -50.0])
    # Without the largest and the smallest: 1 1 2 2 2 2 3 3, mean 2, variance 1/2, of the mean 1/16.
    expected = 2 * (1 - (1 / 16) / 4)
    np.testing.assert_allclose(mean_shift(np.stack([column, -column], axis=1)), [expected, -expected], rtol=1e-12)


def test_mean_shift_of_what_is_only_noise_is_nothing() -> None:
    swaying = np.array([[1.0], [-1.0], [1.0], [-0.9]])  # mean 0.025, its standard deviation 0.49
    assert mean_shift(swaying) == [0.0]
    assert mean_shift(np.zeros((5, 1))) == [0.0]
    assert mean_shift(np.full((5, 1), 0.25)) == [0.25]  # no doubt about it
    assert mean_shift(np.array([[0.75]])) == [0.75]  # one image: nothing is known but this


def test_mean_shift_beats_the_mean_where_tails_are_heavy() -> None:
    rng = np.random.default_rng(0)
    differences = 0.2 + 0.1 * rng.standard_t(1.5, (400, 50, 8))  # 400 trials of 50 images
    robust = np.array([mean_shift(difference) for difference in differences]) - 0.2
    plain = differences.mean(axis=1) - 0.2
    assert np.mean(robust**2) < 0.05 * np.mean(plain**2)
    assert abs(robust.mean()) < 0.005  # not biased towards zero to speak of


def test_one_wild_image_does_not_spoil_the_correction(model: OnnxModel, calibrated: Ranges) -> None:
    wild = images()
    wild[3] = 40.0  # everything behind it is clipped
    usual = with_biases(model, calibrated, U8S7, batches(np.delete(images(), 3, axis=0))).split()[1]
    spoilt = with_biases(model, calibrated, U8S7, batches(wild)).split()[1]
    for name in LAYERS:
        moved = np.abs(spoilt[f"{name}_bias"] - usual[f"{name}_bias"]).max()
        assert moved < 0.02, name
    mean = {name: image_means(model, [name], wild)[name] for name in LAYERS}
    seen = {name: image_means(quantize(model, calibrated, U8S7), [name], wild)[name] for name in LAYERS}
    assert max(np.abs((mean[name] - seen[name]).mean(axis=0)).max() for name in LAYERS) > 1  # the plain mean is


@pytest.mark.parametrize("name", ["static-w7c-a8", "static-w7c-a8s"])
def test_outputs_on_other_images_come_closer(name: str) -> None:
    plain, fixed = 0.0, 0.0
    for seed in (15, 16, 22, 28):
        network = residual(seed)
        ranges = calibrate(network, batches(images()), data_digest="images")
        better = with_biases(network, ranges, scheme(name), batches(images()))
        batch = images(64, seed=5)
        reference = run(network, batch)
        plain += float(np.mean((run(quantize(network, ranges, scheme(name)), batch) - reference) ** 2))
        fixed += float(np.mean((run(quantize(better, ranges, scheme(name)), batch) - reference) ** 2))
    assert fixed < 0.8 * plain


def test_only_biases_change(model: OnnxModel, corrected: OnnxModel) -> None:
    (before, old), (after, new) = model.split(), corrected.split()
    assert [node.op_type for node in before.graph.node] == [node.op_type for node in after.graph.node]
    assert before.graph.input == after.graph.input
    assert before.graph.output == after.graph.output
    assert {name for name in new if name not in old} == {f"{name}_bias" for name in LAYERS}  # thin had none
    for name in new.keys() & old.keys():
        np.testing.assert_array_equal(new[name], old[name])


@pytest.mark.parametrize("size", [1, 7, 16])
def test_batches_do_not_matter(model: OnnxModel, calibrated: Ranges, corrected: OnnxModel, size: int) -> None:
    again = with_biases(model, calibrated, U8S7, batches(images(), size)).split()[1]
    for name, value in corrected.split()[1].items():
        np.testing.assert_allclose(again[name], value, atol=2e-5)


def test_layers_in_float_are_left_alone(model: OnnxModel, calibrated: Ranges) -> None:
    mixed = replace(U8S7, float_layers=frozenset({"deep"}))
    corrected = with_biases(model, calibrated, mixed, batches(images()))
    arrays = corrected.split()[1]
    np.testing.assert_array_equal(arrays["deep_b"], model.split()[1]["deep_b"])
    assert "grouped_bias" in arrays
    quantize(corrected, calibrated, mixed)


def test_a_quantized_output_and_a_shared_bias() -> None:
    """Features end in a convolution, whose output has the graph's name only behind the pair."""
    weights = np.random.default_rng(0).uniform(0.2, 1, (4, 4, 3, 3)).astype(np.float32)
    features = parse(
        HEAD + "g (float[n, 4, 8, 8] x) => (float[n, 4, 6, 6] y)"
        "{ a = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(a)  y = Conv(r, w, b) }",
        {"w": weights / 40, "b": np.array([0.1, 0.2, -0.3, 0], np.float32)},
    )
    batch = np.random.default_rng(1).uniform(0, 1, (24, 4, 8, 8)).astype(np.float32)
    ranges = calibrate(features, batches(batch), data_digest="d")
    corrected = with_biases(features, ranges, U8S7, batches(batch))
    error = [run(quantize(each, ranges, U8S7), batch) - run(features, batch) for each in (features, corrected)]
    assert np.abs(error[1].mean(axis=(0, 2, 3))).max() < 0.3 * np.abs(error[0].mean(axis=(0, 2, 3))).max()


def test_progress_and_repetition(model: OnnxModel, calibrated: Ranges, corrected: OnnxModel) -> None:
    seen: list[Progress] = []
    again = with_biases(model, calibrated, U8S7, batches(images()), on_progress=seen.append)
    assert again == corrected
    assert [(each.done, each.total) for each in seen] == [(done, 6) for done in range(1, 7)]


def test_no_images(model: OnnxModel, calibrated: Ranges) -> None:
    with pytest.raises(UsageError) as caught:
        with_biases(model, calibrated, U8S8, batches(images(0)))
    assert caught.value.code == "no-calibration-images"
