from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from outliernets import ONE_LAYER, U8S8, outlier, ranges_of
from quantnets import batches, images, parse, residual, run, with_biases

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.run import Observer
from xxdeploy.quantize import calibrate, quantize
from xxdeploy.quantize.measure.sensitivity import layer_noise
from xxdeploy.results import LayerNoise, Progress, decibels

Doubles = NDArray[np.float64]


def by_layer(noises: tuple[LayerNoise, ...]) -> dict[str, LayerNoise]:
    return {noise.layer: noise for noise in noises}


def test_each_figure_against_numpy() -> None:
    """Done again with two models and arithmetic of its own, for a convolution and the activation behind it."""
    model, batch = residual(), images(8, seed=9)
    ranges = ranges_of(model)
    integer = quantize(model, ranges, U8S8)
    noises = by_layer(layer_noise(model, ranges, U8S8, batches(batch)))["wide"]
    graph, whole = Graph(model), Graph(integer)
    values = Observer(graph, ["down", "wide6"]).run(batch)
    arrays = {name: value.astype(np.float64) for name, value in whole.arrays.items()}

    def rounded(values: Doubles, root: str) -> Doubles:
        scale, zero = arrays[f"{root}_scale"], arrays[f"{root}_zero_point"]
        return np.asarray((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale)

    def layer(x: Doubles, w: Doubles, b: Doubles) -> Doubles:
        return np.asarray(np.maximum(np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]) + b[None, :, None, None], 0))

    w, b = graph.arrays["wide_w"].astype(np.float64), graph.arrays["wide_b"].astype(np.float64)
    wq = arrays["wide_w_quantized"] * arrays["wide_w_scale"][:, None, None, None]
    bq = arrays["wide_b_quantized"] * arrays["wide_b_scale"]
    x, y = values["down"].astype(np.float64), values["wide6"].astype(np.float64)
    xq = rounded(x, "stem6")  # a MaxPool keeps its input's scale

    def expected(other: Doubles) -> object:
        ratio = decibels(float((y**2).sum()), float(((y - other) ** 2).sum()))
        return pytest.approx(ratio, abs=0.05)

    assert noises.sqnr_db == expected(rounded(layer(xq, wq, bq), "wide6"))
    assert noises.weights_db == expected(layer(x, wq, bq))
    assert noises.input_db == expected(layer(xq, w, b))
    assert noises.output_db == expected(rounded(y, "wide6"))
    there = Observer(whole, ["wide6_dequantized"]).run(batch)["wide6_dequantized"]
    assert noises.accumulated_db == expected(there.astype(np.float64))


def test_every_integer_layer_is_there_the_worst_first() -> None:
    model = residual()
    noises = layer_noise(model, ranges_of(model), U8S8, batches(images(4)))
    assert {noise.layer: noise.operator for noise in noises} == {
        "stem": "Conv", "wide": "Conv", "deep": "Conv", "thin": "Conv", "grouped": "Conv", "logits": "Gemm",
        "sum": "Add", "both": "Concat", "mean": "GlobalAveragePool",
    }  # fmt: skip
    ratios = [noise.sqnr_db for noise in noises]
    assert None not in ratios
    assert ratios == sorted(ratios, key=lambda ratio: ratio or 0)
    layers = by_layer(noises)
    assert layers["sum"].weights_db is None
    assert layers["logits"].output_db is None  # it writes float
    assert layers["stem"].accumulated_db == layers["stem"].sqnr_db  # nothing comes before it
    assert all(15 < (noise.sqnr_db or 0) < 60 for noise in noises)


def test_layers_that_stay_in_float_are_left_out() -> None:
    model = residual()
    noises = layer_noise(model, ranges_of(model), replace(U8S8, float_layers=frozenset({"deep"})), batches(images(4)))
    assert "deep" not in by_layer(noises)
    assert "thin" in by_layer(noises)


def test_an_output_of_the_graph_that_is_quantized() -> None:
    rng = np.random.default_rng(1)
    model = parse(ONE_LAYER, {"w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32)})
    batch = rng.standard_normal((8, 3, 8, 8)).astype(np.float32)
    ranges = calibrate(model, batches(batch), method="minmax", data_digest="d")
    (layer,) = layer_noise(model, ranges, U8S8, batches(batch))
    noise = run(model, batch) - run(quantize(model, ranges, U8S8), batch)
    ratio = decibels(float(np.square(run(model, batch)).sum()), float(np.square(noise).sum()))
    assert layer.sqnr_db == layer.accumulated_db == pytest.approx(ratio, abs=0.05)
    assert layer.output_db is not None


def test_a_layer_with_an_outlier_among_its_weights_is_the_worst() -> None:
    model = outlier(weights=40)
    noises = layer_noise(model, ranges_of(model), U8S8, batches(images(8)))
    assert noises[0].layer == "bad"
    assert noises[0].sqnr_db is not None
    assert noises[1].sqnr_db is not None
    assert noises[0].sqnr_db < noises[1].sqnr_db - 6
    assert noises[0].weights_db == pytest.approx(noises[0].sqnr_db, abs=1)
    healthy = by_layer(layer_noise(outlier(), ranges_of(outlier()), U8S8, batches(images(8))))["bad"]
    assert (healthy.sqnr_db or 0) > noises[0].sqnr_db + 10


def test_an_outlier_among_activations_hurts_the_layer_that_reads_them() -> None:
    model = outlier(activations=300)
    noises = layer_noise(model, ranges_of(model), U8S8, batches(images(8)))
    assert noises[0].layer == "third"
    assert noises[0].input_db == pytest.approx(noises[0].sqnr_db or 0, abs=1)
    assert (noises[0].weights_db or 0) > (noises[0].sqnr_db or 0) + 3
    # The outlier itself is rounded well, and hides what became of the other channels.
    assert (by_layer(noises)["bad"].output_db or 0) > (noises[0].input_db or 0) + 15


def test_a_layer_of_zeros_has_no_figure_and_comes_last() -> None:
    model = outlier(dead=True)
    noises = layer_noise(model, ranges_of(model), U8S8, batches(images(4)))
    assert noises[-1] == LayerNoise("bad", "Conv", None, None, None, None, None)
    assert all(noise.sqnr_db is not None for noise in noises[:-1])


def test_an_integer_network_of_ones_own() -> None:
    model, batch = residual(), images(12)
    ranges = ranges_of(model)
    corrected = quantize(with_biases(model, ranges, U8S8, batches(batch)), ranges, U8S8)
    plain = by_layer(layer_noise(model, ranges, U8S8, batches(batch)))
    noises = by_layer(layer_noise(model, ranges, U8S8, batches(batch), integer=corrected))
    assert (noises["logits"].accumulated_db or 0) > (plain["logits"].accumulated_db or 0)
    assert noises["sum"].sqnr_db == plain["sum"].sqnr_db


def test_batches_of_any_size_give_the_same_and_report_their_images() -> None:
    model, batch = residual(), images(7)
    ranges, reports = ranges_of(model), list[Progress]()
    one = layer_noise(model, ranges, U8S8, batches(batch, 1))
    all_at_once = layer_noise(model, ranges, U8S8, batches(batch, 7), on_progress=reports.append)
    assert [each.layer for each in one] == [each.layer for each in all_at_once]
    for left, right in zip(one, all_at_once, strict=True):
        assert left.sqnr_db == pytest.approx(right.sqnr_db, abs=0.02)
    assert reports[-1] == Progress("sensitivity", 7)


def test_what_cannot_be_measured() -> None:
    model = residual()
    ranges = ranges_of(model)
    with pytest.raises(UsageError) as empty:
        layer_noise(model, ranges, U8S8, lambda: iter(()))
    assert empty.value.code == "no-calibration-images"
    broken = images(2)
    broken[1, 0, 0, 0] = np.nan
    with pytest.raises(ConversionError) as nan:
        layer_noise(model, ranges, U8S8, batches(broken))
    assert nan.value.code == "non-finite-range"
    with pytest.raises(UsageError) as twice:
        layer_noise(quantize(model, ranges, U8S8), ranges, U8S8, batches(images(2)))
    assert twice.value.code == "already-quantized"
