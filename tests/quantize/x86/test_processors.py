from __future__ import annotations

import numpy as np
import pytest
from quantnets import batches, images, residual
from satnets import CASES, Case, brute_conv, conv_input, conv_model

from xxdeploy.errors import UsageError
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.x86.processors import (
    Saturation,
    judge_processors,
    observe_saturation,
    risky_layers,
    saturating_layers,
)
from xxdeploy.results import ProcessorVerdict, Progress


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[9]], ids=str)
def test_the_share_and_the_worst_error_are_those_of_the_sums(case: Case) -> None:
    """Far from the ends of the output's range, integers differ where sums do, once the error is a step or more."""
    (saturations,) = observe_saturation(conv_model(case), lambda: iter([conv_input(case)])).values()
    off = brute_conv(case) != brute_conv(case, saturate=False)
    worst = np.abs(brute_conv(case) - brute_conv(case, saturate=False)).max()
    assert saturations.layer == "layer"
    assert saturations.pairs == risky_layers(conv_model(case))["layer"] > 0
    assert off.mean() <= saturations.share < 1
    assert saturations.worst >= worst - 1


def test_a_network_is_seen_layer_by_layer_in_any_batches() -> None:
    network = residual()
    ranges = calibrate(network, batches(images()), data_digest="images")
    int8 = quantize(network, ranges, scheme("static-w8c-a8"))
    seen: list[Progress] = []
    saturations = observe_saturation(int8, batches(images(24, seed=3), 8), on_progress=seen.append)
    assert list(saturations) == ["stem", "wide", "thin", "grouped", "logits"]  # not the depthwise one
    assert [each.done for each in seen] == list(range(1, 25))
    assert any(saturation.share > 0 for saturation in saturations.values())
    for name, item in observe_saturation(int8, batches(images(24, seed=3), 1)).items():
        assert item.share == pytest.approx(saturations[name].share, abs=1e-6)
        assert item.worst == pytest.approx(saturations[name].worst, rel=1e-5)


def test_seven_bits_cannot_saturate() -> None:
    network = residual()
    ranges = calibrate(network, batches(images()), data_digest="images")
    int8 = quantize(network, ranges, scheme("static-w7c-a8"))
    assert set(risky_layers(int8).values()) == {0}
    saturations = observe_saturation(int8, batches(images()))
    assert {saturation.share for saturation in saturations.values()} == {0.0}
    assert all(verdict.exact for verdict in judge_processors(saturations))


def test_no_images() -> None:
    with pytest.raises(UsageError) as caught:
        observe_saturation(conv_model(CASES[1]), lambda: iter([]))
    assert caught.value.code == "no-calibration-images"


def test_verdicts_name_the_worst_layer() -> None:
    saturations = {
        "a": Saturation("a", 3, 0.5, 2.0),
        "b": Saturation("b", 9, 0.0, 0.0),
        "c": Saturation("c", 1, 0.01, 80.0),
    }
    assert saturating_layers(saturations) == ("c", "a")
    vnni, avx2, arm = judge_processors(saturations)
    assert (vnni.cpu, vnni.exact, arm.cpu, arm.exact) == ("vnni", True, "arm", True)
    assert avx2 == ProcessorVerdict("avx2", False, ("c", "a"), "c", 0.01, 80.0)


def test_impossible_verdicts() -> None:
    with pytest.raises(ValueError, match="cpu"):
        ProcessorVerdict("mips", exact=True)
    with pytest.raises(ValueError, match="exact"):
        ProcessorVerdict("avx2", exact=True, saturating_layers=("a",), worst_layer="a")
    with pytest.raises(ValueError, match="exact"):
        ProcessorVerdict("avx2", exact=False)
