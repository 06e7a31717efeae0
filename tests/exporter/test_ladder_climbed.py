"""The ladder on made networks that break plain min-max, each in a way that one rung can repair."""

from __future__ import annotations

import pytest
from hardnets import (
    PREPROCESS,
    biased_rounding,
    draw,
    inputs,
    network,
    outlier_channel,
    rare_spikes,
    small_differences,
    weights,
)

from xxdeploy.datasets import ImageSet
from xxdeploy.exporter.ladder import Bench, Climb, Goal, climb
from xxdeploy.exporter.quantizer import Quantizer
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.verify import Comparison, compare_with, record_reference

MINMAX = QuantizationRecipe(calibrator="minmax")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, ImageSet]:
    """Images to calibrate on, two of them with a white pixel, and others to judge by."""
    folder = tmp_path_factory.mktemp("colours")
    return draw(folder / "calibration", 32, 0, white=2), draw(folder / "selection", 100, 1)


def climbed(sets: tuple[ImageSet, ImageSet], model: OnnxModel, goal: Goal = Goal()) -> Climb:  # noqa: B008 - frozen
    """Climb from min-max, judged on images as an export does it."""
    calibration, selection = sets
    kept = record_reference(OrtSession(model.to_bytes()), selection.batches(PREPROCESS, 16))

    def judge(int8: OnnxModel) -> Comparison:
        return compare_with(kept, OrtSession(int8.to_bytes(), exact=True), selection.batches(PREPROCESS, 16))

    return climb(
        Quantizer(model, inputs(calibration), lambda _: None),
        Bench(judge, judge, lambda _: (1.0, 1.0)),
        goal,
        start=MINMAX,
        name="plain",
        effort="thorough",
    )


def names(end: Climb) -> list[str]:
    return [rung.name for rung in end.rungs]


def agreement(end: Climb) -> float:
    assert end.best.comparison.agreement is not None
    return end.best.comparison.agreement


def test_where_nothing_is_hard_the_first_rung_holds(sets: tuple[ImageSet, ImageSet]) -> None:
    end = climbed(sets, network(weights()))
    assert names(end) == ["plain"]
    assert end.best.recipe == MINMAX


@pytest.mark.parametrize(
    ("model", "rung"),
    [
        (network(rare_spikes()), "calibrator"),
        (network(outlier_channel(300)), "equalization"),
        (network(biased_rounding(constant=True), residual=True), "analytic correction"),
        (network(biased_rounding(constant=False), residual=True), "rounding"),
    ],
    ids=["spikes", "outlier channel", "rounded down", "rounded down, no constant"],
)
def test_each_rung_does_its_work_and_is_the_last(sets: tuple[ImageSet, ImageSet], model: OnnxModel, rung: str) -> None:
    end = climbed(sets, model)
    assert names(end)[-1] == rung
    assert end.rungs[-1].taken
    assert agreement(end) >= 0.99
    before = [rung for rung in end.rungs[:-1] if rung.taken]
    for earlier in before:
        assert earlier.comparison.agreement is not None
        assert earlier.comparison.agreement < 0.99
        assert earlier.comparison.kl_nats is not None
        assert end.best.comparison.kl_mean is not None
        assert end.best.comparison.kl_mean < earlier.comparison.kl_nats / 5
    assert end.best.recipe.float_layers == ()


def test_what_eight_bits_cannot_hold_goes_back_to_float_where_it_is_promised(
    sets: tuple[ImageSet, ImageSet],
) -> None:
    model = network(small_differences())
    free = climbed(sets, model)
    assert names(free)[-1] == "rounding"
    assert agreement(free) < 0.5
    promised = climbed(sets, model, Goal(agreement=0.9))
    assert names(promised)[-1] == "float layers"
    assert promised.holds
    assert agreement(promised) >= 0.9
    assert {"stem/Conv", "wide/Conv"} <= set(
        promised.best.recipe.float_layers
    )  # between the two the differences are lost
