from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_parts import job, make_template, manifest

from xxdeploy.batch.cards import (
    card_differences,
    card_from_bundle,
    read_card,
    rounded_up,
    text_from_card,
)
from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import CATALOG, find

RESULTS = Path(__file__).resolve().parents[2] / "exports" / "results"
CARDS = sorted(RESULTS.glob("*.json"))
RUNNERS = [
    {"runner": "keras", "top1": 0.9, "top5": 1.0, "agreement": 1.0},
    {"runner": "onnx-fp32", "top1": 0.90004, "top5": 1.0, "agreement": 0.99},
]
ACCURACY = {"images": 500, "data_sha256": "ab", "runners": RUNNERS}


def made(folder: Path, **changes: Any) -> dict[str, Any]:
    return card_from_bundle(job("lenet-fp32"), make_template(folder / "bundle", **changes))


def test_a_card_holds_what_can_be_reproduced(tmp_path: Path) -> None:
    assert made(tmp_path) == {
        "network": "lenet",
        "precision": "fp32",
        "weights": "none",
        "options": {"seed": 0},
        "task": "classification",
        "parameters": 155_606,
        "parity": {"onnx-fp32": {"max_abs": 5e-7, "max_rel": 5e-7, "images": 9}},
        "variants": {
            "fp32": {
                "nodes": 2,
                "quantize": 1,
                "dequantize": 0,
                "transposes": 0,
                "bytes": 100,
                "scheme": "float32",
            }
        },
    }


def test_accuracy_is_there_for_trained_weights_only(tmp_path: Path) -> None:
    parity: dict[str, Any] = {"parity": []}
    source = {"weights": "sample", "options": {}}
    card = made(tmp_path / "a", evidence={**parity, "accuracy": ACCURACY}, source=source)
    assert card["accuracy"] == {
        "images": 500,
        "data_sha256": "ab",
        "keras": {"top1": 0.9, "top5": 1.0, "agreement": 1.0},
        "onnx-fp32": {"top1": 0.9, "top5": 1.0, "agreement": 0.99},
    }
    assert "accuracy" not in made(tmp_path / "b", evidence={**parity, "accuracy": ACCURACY})


@pytest.mark.parametrize("options", [{"alpha": 0.35}, {"classes": 10}, {"include_top": False}])
def test_the_number_of_parameters_is_that_of_the_whole_network(tmp_path: Path, options: dict[str, Any]) -> None:
    bundle = make_template(tmp_path / "b", source={"weights": "none", "options": options})
    assert "parameters" not in card_from_bundle(replace(job("m"), model="mobilenetv2"), bundle)


def test_a_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    card = made(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(text_from_card(card))
    assert read_card(path) == card
    assert card_differences(read_card(path), card) == ()


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "[" * 100_000, '{"network": 3}'])
def test_a_damaged_card(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "card.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_card(path)
    assert caught.value.code == "bad-card"


SHIFT = {"mean": -0.01, "p5": -0.1, "p95": 0.05, "calibration_error": [0.04, 0.05]}
THRESHOLD = {"reference": 0.5, "candidate": 0.47001, "differing": 1, "unchanged": 4}
COMPARED = {"reference": "keras", "images": 500, "cosine": 0.9}


def test_the_shift_of_scores_of_lowered_files(tmp_path: Path) -> None:
    shifts = {"onnx-fp32": SHIFT, "onnx-int8": {**SHIFT, "threshold": THRESHOLD}}
    evidence: dict[str, Any] = {
        "comparison": [{**COMPARED, "candidate": name, "scores": shift} for name, shift in shifts.items()]
    }
    evidence |= {"accuracy": ACCURACY, **manifest()["evidence"]}
    card = made(tmp_path / "a", evidence=evidence, source={"weights": "imagenet", "options": {}})
    assert card["scores"] == {
        "onnx-int8": {
            "mean": -0.01, "p5": -0.1, "p95": 0.05, "calibration_error_before": 0.04, "calibration_error": 0.05,
            "threshold": 0.47,
        }
    }  # fmt: skip
    assert card_differences(card, _set(card, "scores/onnx-int8/p5", -0.101)) == ()
    (problem,) = card_differences(card, _set(card, "scores/onnx-int8/p5", -0.2))
    assert problem == "scores of onnx-int8: p5 is -0.2, the card says -0.1"
    missing = card_differences(card, _set(card, "scores", {}))
    assert missing[0] == "scores of onnx-int8: mean is None, the card says -0.01"
    older = {key: value for key, value in card.items() if key != "scores"}
    assert card_differences(older, card) == ()
    assert "scores" not in made(tmp_path / "b", evidence=evidence)  # random weights


def test_the_figures_of_pictures_may_not_get_worse(tmp_path: Path) -> None:
    figures = [{"name": "psnr", "value": 40.0, "interval": [39.0, 41.0]}, {"name": "ssim", "value": 0.99}]
    names = ("onnx-fp32", "onnx-int8")
    evidence: dict[str, Any] = {
        "comparison": [{**COMPARED, "candidate": name, "figures": figures} for name in names],
        **manifest()["evidence"],
    }
    card = made(tmp_path / "a", evidence=evidence)
    assert card["figures"] == {"onnx-int8": {"psnr": 40.0, "ssim": 0.99}}
    for same in (38.1, 45.0):
        assert card_differences(card, _set(card, "figures/onnx-int8/psnr", same)) == ()
    (problem,) = card_differences(card, _set(card, "figures/onnx-int8/psnr", 37.9))
    assert problem == "onnx-int8: psnr is 37.9, the card says 40.0"
    assert card_differences(card, _set(card, "figures", {}))[0] == "onnx-int8: psnr is None, the card says 40.0"
    errors = _set(card, "figures", {"onnx-int8": {"p95_error": 1.0}})
    assert card_differences(errors, _set(errors, "figures/onnx-int8/p95_error", 0.5)) == ()
    assert card_differences(errors, _set(errors, "figures/onnx-int8/p95_error", 1.1))


def _set(card: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(card)
    *folders, last = path.split("/")
    inner = changed
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("variants/fp32/nodes", 3, "nodes is 3, the card says 2"),
        ("variants/fp32/quantize", 0, "quantize is 0"),
        ("variants/fp32/bytes", 101, "bytes is 101"),
        ("variants", {}, "variants are []"),
        ("weights", "sample", "weights is 'sample'"),
        ("parameters", 1, "parameters is 1"),
        ("parity/onnx-fp32/max_abs", 2e-5, "largest difference 2.0e-05"),
        ("parity", {}, "parity of onnx-fp32 is missing"),
        ("accuracy/keras/top1", 0.95, "keras: top1 is 0.95"),
        ("accuracy/images", 3, "images is 3"),
        ("accuracy", {}, "accuracy is of []"),
    ],
)
def test_what_is_different_is_named(tmp_path: Path, path: str, value: Any, says: str) -> None:
    evidence = {"parity": [{**manifest()["evidence"]["parity"][1], "max_abs": 1e-7, "max_rel": 1e-7}]}
    source = {"weights": "imagenet", "options": {}}
    card = made(tmp_path, evidence={**evidence, "accuracy": ACCURACY}, source=source)
    (problem,) = card_differences(card, _set(card, path, value))
    assert says in problem


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("parity/onnx-fp32/max_abs", 1e-8),
        ("parity/onnx-fp32/max_abs", 9e-6),
        ("accuracy/keras/top1", 0.901),
    ],
)
def test_another_processor_is_no_difference(tmp_path: Path, path: str, value: float) -> None:
    evidence = {"parity": [{**manifest()["evidence"]["parity"][1], "max_abs": 1e-7, "max_rel": 1e-7}]}
    source = {"weights": "imagenet", "options": {}}
    card = made(tmp_path, evidence={**evidence, "accuracy": ACCURACY}, source=source)
    assert card_differences(card, _set(card, path, value)) == ()


@given(st.floats(min_value=1e-12, max_value=1e3))
def test_bounds_are_above_and_near(value: float) -> None:
    bound = rounded_up(value)
    assert value <= bound <= 2.5 * value * (1 + 1e-9)
    assert rounded_up(bound) == bound


def test_no_difference_stays_none() -> None:
    assert rounded_up(0.0) == 0.0


def test_every_network_has_its_card_or_is_said_to_have_none() -> None:
    """Of the committed cards: each network in FP32, with its number of parameters; exports/ names the rest."""
    said = (RESULTS / "README.md").read_text().partition("have no card")[0].rpartition("\n\n")[2]
    without = {find(title).name for title in re.findall(r"\b(?:EfficientNet|ConvNeXt)\w+", said)}
    names = {path.stem for path in CARDS}
    assert {spec.name for spec in CATALOG if f"{spec.name}-fp32" not in names} == without
    for spec in CATALOG:
        if spec.name not in without:
            assert read_card(RESULTS / f"{spec.name}-fp32.json")["parameters"] == spec.parameters


@pytest.mark.parametrize("path", CARDS, ids=[path.stem for path in CARDS])
def test_a_committed_card_is_small_and_keeps_its_promises(path: Path) -> None:
    card = read_card(path)
    text = path.read_text()
    assert text == text_from_card(card)
    assert len(text) < 4000
    assert not any(word in text for word in ("/home", "/work", "/tmp", "seconds"))
    assert not re.search(r"\b20\d\d-\d\d", text)  # no dates
    bound = 1e-5
    assert card["parity"]["onnx-fp32"]["max_abs"] <= bound
    for name, variant in card["variants"].items():
        assert (variant["quantize"] > 0) == name.startswith("int8")
    if card["weights"] in ("imagenet", "sample"):
        assert card["accuracy"]["onnx-fp32"]["agreement"] == 1.0
    json.loads(text)
