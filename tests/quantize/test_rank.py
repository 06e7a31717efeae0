from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, images, parse, residual, run
from test_sensitivity import ONE_LAYER, U8S8, outlier, ranges_of

from xxdeploy.artifacts import OnnxModel, Progress, decibels
from xxdeploy.errors import UsageError
from xxdeploy.quantize import Scheme, calibrate, quantize
from xxdeploy.quantize.rank import rank_layers


def test_the_layer_with_the_outlier_is_worth_most() -> None:
    model = outlier(weights=40)
    first, second, *_ = rank_layers(model, ranges_of(model), U8S8, batches(images(8)))
    assert (first.layer, first.layers, first.cause) == ("bad", ("bad",), "weights")
    assert first.gain_db > 4
    assert first.gain_db > second.gain_db / len(second.layers) + 1


def test_where_activations_hurt_both_sides_of_the_tensor_go_to_float() -> None:
    model = outlier(activations=300)
    ranges, data = ranges_of(model), images(8)
    first, *_ = rank_layers(model, ranges, U8S8, batches(data))
    assert (first.layer, first.layers, first.cause) == ("third", ("bad", "third"), "input")
    assert first.gain_db > 5
    # Alone, neither takes the rounding of the tensor between them away.
    expected = run(model, data)

    def noise(*layers: str) -> float:
        mixed = quantize(model, ranges, replace(U8S8, float_layers=frozenset(layers)))
        return float(np.square(run(mixed, data) - expected).sum())

    assert noise("bad", "third") < noise("third") / 3
    assert noise("bad", "third") < noise("bad") / 3


def test_the_gain_is_what_the_output_gains() -> None:
    """Counted again from the log of the probabilities, which are the logits but for a constant that is taken away."""
    model, data = outlier(weights=40), images(6)
    ranges = ranges_of(model)

    def logits(candidate: OnnxModel) -> NDArray[np.float64]:
        values = np.log(run(candidate, data).astype(np.float64))
        return np.asarray(values - values.mean(axis=1, keepdims=True))

    def ratio(scheme: Scheme) -> float:
        difference = logits(quantize(model, ranges, scheme)) - logits(model)
        found = decibels(float(np.square(logits(model)).sum()), float(np.square(difference).sum()))
        assert found is not None
        return found

    for gain in rank_layers(model, ranges, U8S8, batches(data), candidates=2):
        mixed = ratio(replace(U8S8, float_layers=frozenset(gain.layers)))
        assert gain.output_db == pytest.approx(mixed, abs=0.1)
        assert gain.gain_db == pytest.approx(mixed - ratio(U8S8), abs=0.2)


def test_the_work_is_bounded_and_reported() -> None:
    model, reports, built = residual(), list[Progress](), list[Scheme]()
    ranges = ranges_of(model)

    def build(scheme: Scheme) -> OnnxModel:
        built.append(scheme)
        return quantize(model, ranges, scheme)

    found = rank_layers(
        model, ranges, U8S8, batches(images(16)), candidates=3, images=5, build=build, on_progress=reports.append
    )
    assert len(found) == 3
    assert len(built) == 4  # the network as it is, and three candidates
    assert built[0] == U8S8
    assert {frozenset(each.layers) for each in found} == {scheme.float_layers for scheme in built[1:]}
    assert reports == [Progress("rank layers", done, 3) for done in (1, 2, 3)]
    worth = [each.gain_db / len(each.layers) for each in found]
    assert worth == sorted(worth, reverse=True)


def test_layers_that_are_in_float_already_are_no_candidates() -> None:
    model = outlier(weights=40)
    mixed = replace(U8S8, float_layers=frozenset({"bad"}))
    found = rank_layers(model, ranges_of(model), mixed, batches(images(4)))
    assert found
    assert all("bad" not in each.layers for each in found)


def test_only_the_first_images_count() -> None:
    model = outlier(weights=40)
    ranges, data = ranges_of(model), images(20)
    assert rank_layers(model, ranges, U8S8, batches(data, 7), images=10) == rank_layers(
        model, ranges, U8S8, batches(data[:10], 10), images=10
    )


def test_a_dead_layer_and_a_lack_of_images() -> None:
    model = outlier(dead=True)
    ranges = ranges_of(model)
    assert all(each.layer != "bad" for each in rank_layers(model, ranges, U8S8, batches(images(4))))
    with pytest.raises(UsageError) as caught:
        rank_layers(model, ranges, U8S8, lambda: iter(()))
    assert caught.value.code == "no-calibration-images"


def test_a_network_of_one_layer_has_nothing_to_leave_in_float() -> None:
    rng = np.random.default_rng(1)
    model = parse(ONE_LAYER, {"w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32)})
    data = rng.standard_normal((4, 3, 8, 8)).astype(np.float32)
    ranges = calibrate(model, batches(data), method="minmax", data_digest="d")
    assert rank_layers(model, ranges, U8S8, batches(data)) == ()
