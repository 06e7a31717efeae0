from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from quantnets import batches, images, parse, run

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import Scheme, calibrate, quantize
from xxdeploy.quantize.calibration.calibrate import observe_extremes, observe_histograms
from xxdeploy.quantize.calibration.histograms import choose_ranges
from xxdeploy.results import Progress

EVERY = ("minmax", "moving-average", "percentile-99.9", "entropy", "mse")
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def copy_network() -> OnnxModel:
    """Return a network whose first tensor is the image and whose second is twice the image."""
    weights = {"w": np.full((1, 1, 1, 1), 2, np.float32)}
    return parse(HEAD + "g (float[n, 1, h, v] x) => (float[n, 1, h, v] y) { y = Conv(x, w) }", weights)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_minmax_is_exact_for_any_batches(size: int) -> None:
    batch = np.random.default_rng(0).standard_normal((16, 1, 5, 5)).astype(np.float32)
    calibrated = calibrate(copy_network(), batches(batch, size), data_digest="d")
    assert calibrated.ranges == {"x": (batch.min(), batch.max()), "y": (2 * batch.min(), 2 * batch.max())}


@pytest.mark.parametrize("percent", [90, 99, 99.9, 100])
def test_percentile_leaves_the_same_share_out_on_either_side(percent: float) -> None:
    batch = np.random.default_rng(1).standard_normal((40, 1, 50, 50)).astype(np.float32)
    batch[:, 0, 0, 0] *= 30
    calibrated = calibrate(copy_network(), batches(batch), method=f"percentile-{percent}", data_digest="d")
    expected = np.quantile(batch, [0.5 - percent / 200, 0.5 + percent / 200])
    np.testing.assert_allclose(calibrated.ranges["x"], expected, atol=2 * np.abs(batch).max() / 2048)
    np.testing.assert_allclose(calibrated.ranges["y"], 2 * expected, atol=4 * np.abs(batch).max() / 2048)


def test_percentile_does_not_depend_on_order_or_batches(model: OnnxModel) -> None:
    batch = images(12)
    calibrated = calibrate(model, batches(batch, 5), method="percentile-99.5", data_digest="d")
    again = calibrate(model, batches(batch[::-1], 2), method="percentile-99.5", data_digest="d")
    assert calibrated == again
    assert calibrated.method == "percentile-99.5"


def test_the_record(model: OnnxModel) -> None:
    seen: list[Progress] = []
    calibrated = calibrate(model, batches(images(6)), data_digest="digest of the images", on_progress=seen.append)
    assert (calibrated.model_digest, calibrated.data_digest) == (model.digest, "digest of the images")
    assert (calibrated.method, calibrated.images) == ("minmax", 6)
    assert seen == [Progress("calibrate", done) for done in range(1, 7)]
    observe_histograms(model, batches(images(2)), data_digest="d", total=2, on_progress=seen.append)
    assert seen[-1] == Progress("calibrate", 2, 2)
    assert calibrated.ranges["stem6"][0] == 0
    assert calibrated.ranges["stem6"][1] <= 6
    assert "logits" not in calibrated.ranges


def test_memory_does_not_grow_with_the_images() -> None:
    """Ten thousand images take what a hundred do."""
    network = copy_network()

    def peak(count: int) -> int:
        def stream() -> Iterator[NDArray[np.float32]]:
            for seed in range(count // 10):
                yield np.full((10, 1, 2, 2), seed, np.float32)

        tracemalloc.start()
        try:
            for method in EVERY:
                calibrate(network, stream, method=method, data_digest="d")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(2000) < 1.1 * peak(20) + 50_000


def test_one_pass_serves_every_method(model: OnnxModel) -> None:
    histograms = observe_histograms(model, batches(images(10)), data_digest="d")
    for method in EVERY:
        assert choose_ranges(histograms, method) == calibrate(
            model, batches(images(10)), method=method, data_digest="d"
        )
    assert len({tuple(choose_ranges(histograms, method).ranges.items()) for method in EVERY}) == len(EVERY)


@pytest.mark.parametrize("method", EVERY)
def test_one_image_is_enough_to_quantize(model: OnnxModel, method: str) -> None:
    batch = images(1)
    ranges = calibrate(model, batches(batch), method=method, data_digest="d")
    output = run(quantize(model, ranges, Scheme()), batch)
    assert np.abs(output - run(model, batch)).max() < 0.1


@pytest.mark.parametrize("method", EVERY)
def test_dead_channels_and_a_silent_tensor(method: str) -> None:
    """One channel that is always zero, one layer whose output is."""
    weights = np.zeros((4, 1, 1, 1), np.float32)
    weights[0] = 1
    network = parse(
        HEAD + "g (float[n, 1, 4, 4] x) => (float[n, 2, 4, 4] y) { a = Conv(x, w) r = Relu(a)  b = Conv(r, v)"
        " q = Relu(b)  s = Conv(q, u)  y = Conv(s, u) }",
        {"w": weights, "v": -np.ones((2, 4, 1, 1), np.float32), "u": np.ones((2, 2, 1, 1), np.float32)},
    )
    batch = np.random.default_rng(0).uniform(0, 1, (5, 1, 4, 4)).astype(np.float32)
    ranges = calibrate(network, batches(batch), method=method, data_digest="d")
    assert ranges.ranges["q"] == (0, 0)
    assert ranges.ranges["r"][1] > 0.9
    np.testing.assert_array_equal(run(quantize(network, ranges, Scheme()), batch), 0)


def test_constant_and_silent_tensors() -> None:
    calibrated = calibrate(copy_network(), batches(np.zeros((3, 1, 4, 4), np.float32)), data_digest="d")
    assert calibrated.ranges == {"x": (0, 0), "y": (0, 0)}
    constant = batches(np.full((3, 1, 4, 4), 0.5, np.float32))
    for method in EVERY:
        low, high = calibrate(copy_network(), constant, method=method, data_digest="d").ranges["y"]
        assert (max(low, high), high) == pytest.approx((1, 1), abs=1e-3)


@pytest.mark.parametrize("method", ["", "mean", "percentile", "percentile-x", "percentile-101", "minmax-3"])
def test_unknown_methods(model: OnnxModel, method: str) -> None:
    with pytest.raises(UsageError) as caught:
        calibrate(model, batches(images(1)), method=method, data_digest="d")
    assert caught.value.code == "unknown-calibrator"


def test_no_images(model: OnnxModel) -> None:
    for empty in (batches(images(0)), batches(np.zeros((0, 16, 16, 3), np.float32))):
        with pytest.raises(UsageError) as caught:
            calibrate(model, empty, data_digest="d")
        assert caught.value.code == "no-calibration-images"


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_images_are_refused(model: OnnxModel, method: str, value: float) -> None:
    batch = images(3)
    batch[1, 4, 4, 1] = value
    with pytest.raises(ConversionError) as caught:
        calibrate(model, batches(batch), method=method, data_digest="d")
    assert caught.value.code == "non-finite-range"


def test_images_of_another_size_are_refused(model: OnnxModel) -> None:
    with pytest.raises(ConversionError) as caught:
        calibrate(model, batches(images(2, size=12)), data_digest="d")
    assert caught.value.code == "calibration-run"


TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2, 2, 1] image) => (float[n, 4] features)
<float[1] large = {1000.0}, int64[2] shape = {-1, 4}>
{
  scaled = Mul(image, large)
  cut = Relu(scaled)
  features = Reshape(cut, shape)
}
"""


def scaled_network() -> OnnxModel:
    proto = onnx.parser.parse_model(TEXT)
    return OnnxModel(proto.SerializeToString())


def test_all_tensors_and_all_images_count() -> None:
    images = np.zeros((3, 2, 2, 1), np.float32)
    images[0, 0, 0, 0], images[2, 1, 1, 0] = -80.0, 5.0
    seen: list[Progress] = []
    extremes = observe_extremes(
        scaled_network(), lambda: iter([images[:2], images[2:]]), total=3, on_progress=seen.append
    )
    assert extremes.ranges == {
        "image": (-80.0, 5.0),
        "scaled": (-80000.0, 5000.0),  # Relu hides it, float16 would not hold it
        "cut": (0.0, 5000.0),
        "features": (0.0, 5000.0),
    }
    assert (extremes.images, extremes.method) == (3, "minmax")
    assert [each.done for each in seen] == [1, 2, 3]


def test_nothing_to_look_at_and_values_that_are_no_numbers() -> None:
    with pytest.raises(UsageError) as caught:
        observe_extremes(scaled_network(), lambda: iter(()))
    assert caught.value.code == "no-calibration-images"
    with pytest.raises(ConversionError) as failed:
        observe_extremes(scaled_network(), lambda: iter([np.full((1, 2, 2, 1), 3e38, np.float32)]))
    assert failed.value.code == "non-finite-range"
