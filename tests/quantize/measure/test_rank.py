from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from outliernets import ONE_LAYER, U8S8, outlier, ranges_of
from quantnets import batches, images, parse, residual, run

from xxdeploy.errors import UsageError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import Scheme, calibrate, quantize
from xxdeploy.quantize.measure.rank import _halve, rank_layers
from xxdeploy.results import Progress, decibels


def test_the_layer_with_the_outlier_is_worth_most() -> None:
    model = outlier(weights=40)
    first, *others = rank_layers(model, ranges_of(model), U8S8, batches(images(8)))
    assert first.layers == ("bad",)
    assert first.gain_db > 4
    assert all(first.gain_db > other.gain_db / len(other.layers) + 1 for other in others)


def test_where_activations_hurt_both_sides_of_the_tensor_go_to_float() -> None:
    model = outlier(activations=300)
    ranges, batch = ranges_of(model), images(8)
    first, *_ = rank_layers(model, ranges, U8S8, batches(batch))
    assert first.layers == ("bad", "third")
    assert first.gain_db > 5
    # Alone, neither takes the rounding of the tensor between them away.
    expected = run(model, batch)

    def noise(*layers: str) -> float:
        mixed = quantize(model, ranges, replace(U8S8, float_layers=frozenset(layers)))
        return float(np.square(run(mixed, batch) - expected).sum())

    assert noise("bad", "third") < noise("third") / 3
    assert noise("bad", "third") < noise("bad") / 3


def test_the_gain_is_what_the_output_gains() -> None:
    """Counted again from the log of the probabilities, which are the logits but for a constant that is taken away."""
    model, batch = outlier(weights=40), images(6)
    ranges = ranges_of(model)

    def logits(candidate: OnnxModel) -> NDArray[np.float64]:
        values = np.log(run(candidate, batch).astype(np.float64))
        return np.asarray(values - values.mean(axis=1, keepdims=True))

    def ratio(scheme: Scheme) -> float:
        difference = logits(quantize(model, ranges, scheme)) - logits(model)
        found = decibels(float(np.square(logits(model)).sum()), float(np.square(difference).sum()))
        assert found is not None
        return found

    for gain in rank_layers(model, ranges, U8S8, batches(batch), trials=2):
        mixed = ratio(replace(U8S8, float_layers=frozenset(gain.layers)))
        assert gain.output_db == pytest.approx(mixed, abs=0.1)
        assert gain.gain_db == pytest.approx(mixed - ratio(U8S8), abs=0.2)


def test_the_work_is_bounded_and_reported() -> None:
    model, reports, built = residual(), list[Progress](), list[Scheme]()
    ranges = ranges_of(model)

    def build(scheme: Scheme) -> OnnxModel:
        built.append(scheme)
        return quantize(model, ranges, scheme)

    gains = rank_layers(
        model, ranges, U8S8, batches(images(16)), trials=5, images=5, build=build, on_progress=reports.append
    )
    assert built[0] == U8S8
    assert len(built) == 6  # the network as it is, and five trials
    assert len({scheme.float_layers for scheme in built}) == 6
    assert {frozenset(gain.layers) for gain in gains} <= {scheme.float_layers for scheme in built[1:]}
    assert reports == [Progress("rank layers", done, 5) for done in range(1, 6)]
    worth = [gain.gain_db / len(gain.layers) for gain in gains]
    assert worth == sorted(worth, reverse=True)
    assert all(value > 0 for value in worth)


def test_layers_that_are_in_float_already_are_not_tried() -> None:
    model = outlier(weights=40)
    mixed = replace(U8S8, float_layers=frozenset({"bad"}))
    gains = rank_layers(model, ranges_of(model), mixed, batches(images(4)))
    assert gains
    assert all("bad" not in gain.layers for gain in gains)


def test_only_the_first_images_count() -> None:
    model = outlier(weights=40)
    ranges, batch = ranges_of(model), images(20)
    assert rank_layers(model, ranges, U8S8, batches(batch, 7), images=10) == rank_layers(
        model, ranges, U8S8, batches(batch[:10], 10), images=10
    )


def test_a_dead_layer_is_worth_nothing_alone() -> None:
    model = outlier(dead=True)
    gains = rank_layers(model, ranges_of(model), U8S8, batches(images(4)))
    assert ("bad",) not in [gain.layers for gain in gains]


def test_no_images() -> None:
    model = residual()
    with pytest.raises(UsageError) as caught:
        rank_layers(model, ranges_of(model), U8S8, lambda: iter(()))
    assert caught.value.code == "no-calibration-images"


def test_a_network_of_one_layer_has_nothing_to_leave_in_float() -> None:
    rng = np.random.default_rng(1)
    model = parse(ONE_LAYER, {"w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32)})
    batch = rng.standard_normal((4, 3, 8, 8)).astype(np.float32)
    ranges = calibrate(model, batches(batch), method="minmax", data_digest="d")
    assert rank_layers(model, ranges, U8S8, batches(batch)) == ()


def shares(*bad: tuple[int, ...]) -> tuple[Callable[[range], float], list[range]]:
    """Layers of a network where each of ``bad`` makes its part of the noise, and all of one must go together."""
    asked: list[range] = []

    def share(run: range) -> float:
        asked.append(run)
        return sum(set(each) <= set(run) for each in bad) / len(bad)

    return share, asked


@pytest.mark.parametrize("at", [0, 1, 249, 250, 251, 498, 499])
def test_halving_finds_one_layer_of_500_in_twenty_trials(at: int) -> None:
    share, asked = shares((at,))
    _halve(range(500), share, 20, None)
    assert range(at, at + 1) in asked
    assert len(asked) <= 20
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("at", [0, 123, 124, 249, 250, 374, 498])
def test_halving_finds_a_pair_also_across_a_cut(at: int) -> None:
    share, asked = shares((at, at + 1))
    _halve(range(500), share, 40, None)
    runs = [run for run in asked if at in run and at + 1 in run]
    assert min(map(len, runs)) <= 3


def test_halving_follows_the_noise() -> None:
    share, asked = shares((3,), (7,), (91,))
    _halve(range(100), share, 60, None)
    assert all(range(at, at + 1) in asked for at in (3, 7, 91))
    assert not any(run.start >= 40 and run.stop <= 80 and len(run) < 12 for run in asked)  # nothing is wrong there


def test_halving_ends_where_there_is_nothing_to_find() -> None:
    reports: list[Progress] = []
    share, asked = shares((0, 99))  # no run but the whole has both
    _halve(range(100), share, 50, reports.append)
    assert len(asked) == 3
    assert reports[-1] == Progress("rank layers", 50, 50)
