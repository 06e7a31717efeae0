"""Evidence as typed values: a round trip, older bundles, and damage as an error with a code."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xxdeploy.errors import BundleError
from xxdeploy.results import (
    AccuracyRecord,
    CalibrationRecord,
    ComparisonRecord,
    DomainRecord,
    EngineRecord,
    Evidence,
    Fp16Record,
    LayerDomain,
    MatchingThreshold,
    Parity,
    ProcessorVerdict,
    Rung,
    RunnerAccuracy,
    ScoreShift,
    StepRecord,
    worst_parities,
)

FEATURES = ComparisonRecord("onnx-fp32", "onnx-int8", 20, 0.9, 31.3)
COMPARED = ComparisonRecord(
    "keras", "onnx-int8", 677, 0.94, 25.9, agreement=0.9852, agreement_interval=(0.973, 0.992), kl_nats=0.0063,
    top1=(0.7829, 0.7888), change=0.0059, change_interval=(-0.0023, 0.014), gained=5, lost=1, mcnemar_p=0.219,
)  # fmt: skip
SCORED = replace(
    COMPARED, scores=ScoreShift(-0.01, -0.1, 0.1, (0.04, 0.05), MatchingThreshold(0.5, 0.47, 1, 4)), candidate="fast"
)
WHOLE = Evidence(
    parity=(Parity("keras", "onnx-fp32", 9, 2e-6, 1e-9, 2e-6, 1.0, 1.0, 0.5, "block", optimized=False),),
    passes=(StepRecord("fold_affine", {"changed": 52, "kind": "x", "share": 0.5, "done": True}),),
    notes=("a note",),
    calibration=CalibrationRecord("mse", 300, "a" * 64),
    recipe={"scheme": "static-w8c-a8", "equalization": True, "float-layers": []},
    ladder=(Rung("plain", False, FEATURES),),
    selection=(FEATURES,),
    processors=(ProcessorVerdict("vnni", True), ProcessorVerdict("avx2", False, ("conv",), "conv", 0.2, 91.5)),
    fp16=Fp16Record({}, 27.4),
    comparison=(COMPARED, SCORED),
    domain=DomainRecord(64, 0, 5, (3, 0), 0, None, (LayerDomain("conv", (0.01, None), (0.9, None)),)),
    accuracy=AccuracyRecord(677, "7" * 64, (RunnerAccuracy("keras", 1.0, 0.78, 0.95),)),
    engine=EngineRecord("network", {"int8": 1.0}, 100, 2, (), 10, 40, 99),
)
OLD: dict[str, Any] = {
    "reference": "keras", "candidate": "block of onnx-int8, unoptimised", "images": 9, "max_abs": 1, "mean_abs": 0.1,
    "max_rel": 0.5, "cosine": 0.9, "agreement": 0.75,
}  # fmt: skip


def test_everything_comes_back_as_it_was_written() -> None:
    document = json.loads(json.dumps(WHOLE.to_json(), allow_nan=False))
    assert Evidence.from_json(document) == WHOLE
    assert Evidence.from_json({}) == Evidence()
    assert Evidence().to_json() == {"parity": [], "passes": [], "notes": []}


def test_the_scores_of_lowered_files() -> None:
    """Those on the evaluation images, else on the selection images; float32's do not move."""
    floats = replace(SCORED, candidate="onnx-fp32")
    assert WHOLE.scores == {"fast": SCORED.scores}
    assert Evidence(comparison=(floats,), selection=(SCORED,)).scores == {}
    assert Evidence(selection=(SCORED, COMPARED)).scores == {"fast": SCORED.scores}


def test_times_of_a_rung_are_not_written() -> None:
    rung = Rung("plain", True, COMPARED, 4.0, 8.0, 30.0)
    assert (rung.of_float, rung.drop) == (0.5, -0.0059)
    document: Any = Evidence(ladder=(rung,)).to_json()
    (written,) = document["ladder"]
    assert not {"milliseconds", "float_milliseconds", "seconds"} & set(written)
    (read,) = Evidence.from_json({"ladder": [written]}).ladder
    assert (read.of_float, read.drop, read.comparison) == (None, -0.0059, COMPARED)


def test_the_layout_is_that_of_older_bundles() -> None:
    document: Any = WHOLE.to_json()
    assert document["parity"][0]["candidate"] == "block of onnx-fp32, unoptimized"
    assert document["passes"] == [{"step": "fold_affine", "changed": 52, "kind": "x", "share": 0.5, "done": True}]
    assert document["ladder"][0]["rung"] == "plain"
    assert document["processors"][0] == {"cpu": "vnni", "exact": True}
    assert document["fp16"] == {"kept": {}, "largest": 27.4}
    assert document["comparison"][0]["top1"] == [0.7829, 0.7888]


@pytest.mark.parametrize(
    ("candidate", "stage", "output", "optimized"),
    [
        ("onnx-int8", "onnx-int8", "", True),
        ("onnx-int8, unoptimised", "onnx-int8", "", False),
        ("onnx-int8-avx2, unoptimized", "onnx-int8-avx2", "", False),
        ("block of onnx-fp32", "onnx-fp32", "block", True),
        ("block of onnx-fp32, unoptimised", "onnx-fp32", "block", False),
    ],
)
def test_a_display_name_of_an_older_bundle(candidate: str, stage: str, output: str, optimized: bool) -> None:
    (parity,) = Evidence.from_json({"parity": [{**OLD, "candidate": candidate}]}).parity
    assert (parity.stage, parity.output, parity.optimized) == (stage, output, optimized)
    assert parity.candidate == candidate.replace("unoptimised", "unoptimized")


def test_the_worse_of_two_is_taken_figure_by_figure() -> None:
    first = Parity("keras", "onnx-int8", 9, 1e-3, 1e-4, 0.5, 0.99, 0.8, optimized=False)
    second = Parity("keras", "onnx-int8", 9, 2e-3, 1e-5, 0.4, 0.98, 0.9)
    (worst,) = worst_parities((first, second)).values()
    assert (worst.max_abs, worst.mean_abs, worst.max_rel) == (2e-3, 1e-4, 0.5)
    assert (worst.cosine, worst.agreement) == (0.98, 0.8)


def test_parts_that_are_not_known_are_skipped() -> None:
    read = Evidence.from_json({"later": [1], "calibration": None, "parity": [{**OLD, "later": "x"}]})
    assert read.parity[0].max_abs == 1.0
    assert read.calibration is None


@pytest.mark.parametrize(
    "damaged",
    [
        7, [], {"parity": {}}, {"parity": [7]}, {"parity": [{**OLD, "images": 0}]},
        {"parity": [{**OLD, "images": True}]},
        {"parity": [{**OLD, "max_abs": "1"}]}, {"parity": [{**OLD, "agreement": 1.5}]}, {"parity": [{"images": 9}]},
        {"parity": [{**OLD, "candidate": 7}]}, {"parity": [{**OLD, "max_abs": 10**400}]},
        {"passes": [{"changed": 3}]}, {"passes": [{"step": "x", "changed": [3]}]}, {"notes": "text"}, {"notes": [1]},
        {"calibration": []}, {"calibration": {"method": "mse"}}, {"recipe": "x"}, {"ladder": [{"rung": "plain"}]},
        {"comparison": [{"candidate": "x"}]}, {"processors": [{"cpu": "mips", "exact": True}]},
        {"processors": [{"cpu": "avx2", "exact": True, "saturating_layers": ["conv"]}]},
        {"accuracy": {"images": 0, "data_sha256": "", "runners": []}},
        {"accuracy": {"images": 1, "data_sha256": "", "runners": [{"runner": "keras", "top1": 2}]}},
        {"engine": {"depth": "network"}}, {"fp16": {"kept": {"layer": 1}}},
        {"comparison": [{"reference": "a", "candidate": "b", "images": 1, "cosine": 1, "top1": [0.5]}]},
        {"comparison": [{"reference": "a", "candidate": "b", "images": 1, "cosine": 1, "top1": [0.5, 0.5]}]},
        {"comparison": [{"reference": "a", "candidate": "b", "images": 1, "cosine": 1, "agreement": 0.5}]},
    ],
)  # fmt: skip
def test_damage_is_an_error_with_a_code(damaged: Any) -> None:
    with pytest.raises(BundleError) as caught:
        Evidence.from_json(damaged)
    assert caught.value.code == "manifest-value"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_part_may_be_anything(drawn: st.DataObject) -> None:
    """One value of a whole document is replaced: it is read, or refused with a code."""
    document: Any = json.loads(json.dumps(WHOLE.to_json()))
    place: Any = document
    while isinstance(place, dict | list) and place:
        key = drawn.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or drawn.draw(st.booleans()):
            place[key] = drawn.draw(JSON)
            break
        place = place[key]
    with suppress(BundleError):
        assert isinstance(Evidence.from_json(document), Evidence)
