"""The page of a bundle: what it says, and what it never does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from reportpages import COMPARED, EVIDENCE, MEASURED, NOISE, Page, manifest

from xxdeploy.report import Changed, Pair, Timing, render_report
from xxdeploy.report.page import tiles
from xxdeploy.runtime.bundle.manifest import Manifest


def test_everything_that_was_measured_is_there() -> None:
    page = Page(render_report(manifest(), NOISE, MEASURED))
    text = " ".join(page.text.split())
    for words in (
        "78.3 → 78.9", "lost -0.6 points (95 % CI -1.4 to 0.2), 677 images",
        "98.5 %", "of images keep the class of keras (95 % CI 97.3 to 99.2)",
        "3.8 times smaller", "0.51x of float32 in the same run", "3.2e-06",
        "2 images changed class in onnx-int8", "newly wrong: 1 of those shown", "tabby → tiger cat",
        "recipe mobilenetv2 taken 98.8", "All 40 layers", "block_0/Conv", "p99", "a sentence", "a note",
        "int8, for x86 with VNNI", "300 images, ranges by mse", "xxdeploy export mobilenetv2 --int8", "fold_affine",
    ):  # fmt: skip
        assert words in text, words
    assert "remove_identity" not in text  # a millisecond is worth no row
    assert sum(tag == "img" for tag, _ in page.tags) == 2


def test_it_opens_offline_and_runs_nothing() -> None:
    html = render_report(manifest(), NOISE, MEASURED)
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "form", "base"}
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"https?://|url\(|@import|javascript:", html)
    policy = next(each["content"] for tag, each in page.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in html


def test_names_are_text_whatever_they_hold() -> None:
    evil = "</style><script>alert(1)</script><img src=x onerror=alert(1)>"
    noise = (replace(NOISE[0], layer=evil, operator=evil),)
    seen = replace(
        MEASURED, changed=(Changed(evil, evil, evil, evil, ""),), confused=((evil, evil, 2),), sentences=(evil,),
        command=evil, steps=((evil, 1.0),), candidate=evil, processors=(evil,),
    )  # fmt: skip
    hostile = manifest(source={"model": evil}, tools={evil: evil}, evidence={**EVIDENCE, "notes": [evil]})
    page = Page(render_report(hostile, noise, seen))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 10


def test_a_bundle_without_anything_measured() -> None:
    page = Page(render_report(manifest(evidence={})))
    assert "not measured" in page.text
    keys = ("reference", "candidate", "images", "sqnr_db", "cosine")
    features = manifest(
        task="features", classes=0, output_name="features",
        evidence={"comparison": [{key: COMPARED[key] for key in keys}]},
    )  # fmt: skip
    assert "25.9 dB" in Page(render_report(features)).text


FIGURES: list[dict[str, Any]] = [
    {"name": "psnr", "value": 41.2, "interval": [40.8, 41.6]}, {"name": "ssim", "value": 0.9871},
]  # fmt: skip


def of_pictures(value: float = 41.2) -> Manifest:
    compared = {"reference": "keras", "candidate": "onnx-int8", "images": 200, "cosine": 0.99, "sqnr_db": 40.0}
    figures = [{**FIGURES[0], "value": value, "interval": None}, FIGURES[1]] if value < 40 else FIGURES
    about: dict[str, Any] = {"schema": 4, "task": "image", "classes": 0, "output_range": (0.0, 1.0)}
    return manifest(**about, evidence={"comparison": [{**compared, "figures": figures}]})


def test_pictures_have_their_figures_and_pairs() -> None:
    pair = Pair("a.png", *[f"data:image/jpeg;base64,{letter}" for letter in "ABCD"], 8)  # type: ignore[arg-type, call-arg]
    page = Page(render_report(of_pictures(), NOISE, MEASURED.with_pairs("onnx-int8", (pair,))))
    text = " ".join(page.text.split())
    assert "has a PSNR 41.2 dB (95 % CI 40.8 to 41.6) against keras, 200 images" in text
    assert "onnx-int8 41.2 (40.8 to 41.6) 0.9871" in text
    assert "8 times enlarged" in text
    assert "changed class" not in text
    assert 'model.image("photo.jpg")' in text
    shown = [values["src"] for tag, values in page.tags if tag == "img"]
    assert [f"data:image/jpeg;base64,{letter}" for letter in "ABCD"] == [src for src in shown if src and len(src) == 24]
    assert MEASURED.with_pairs("", ()) is MEASURED


@pytest.mark.parametrize(("value", "state"), [(41.2, "good"), (25.0, "care")])
def test_pictures_that_differ_need_care(value: float, state: str) -> None:
    assert next(tile.state for tile in tiles(of_pictures(value), MEASURED) if tile.title == "PSNR") == state


@pytest.mark.parametrize(
    ("change", "title", "state"),
    [
        ({}, "Top-1", "good"),
        ({"change": -0.05, "change_interval": [-0.07, -0.03]}, "Top-1", "care"),
        ({}, "Agreement", "good"),
        ({"agreement": 0.8}, "Agreement", "care"),
    ],
)
def test_what_needs_care_is_marked(change: dict[str, Any], title: str, state: str) -> None:
    drawn = tiles(manifest(evidence={**EVIDENCE, "comparison": [{**COMPARED, **change}]}), MEASURED)
    assert next(each.state for each in drawn if each.title == title) == state


def test_a_file_that_is_no_faster_says_so() -> None:
    slow = replace(MEASURED, timings=(*MEASURED.timings[:2], Timing("onnx-int8", 3_700_000, (9.0, 9.0, 9.0))))
    (time,) = (tile for tile in tiles(manifest(), slow) if tile.title == "Time")
    assert time.state == "care"
    assert "not faster" in time.more


def test_scores_and_thresholds_are_shown() -> None:
    text = " ".join(Page(render_report(manifest(), NOISE, MEASURED)).text.split())
    assert "onnx-int8 -1.2 -10.1 to +4.6 4.1 → 5.2 0.5 → 0.4789 6 → 1" in text
    assert "the agreement of classes says nothing about a threshold" in text
    plain = {**COMPARED, "scores": {"mean": 0.0, "p5": 0.0, "p95": 0.01}}  # many classes, no labels
    text = " ".join(Page(render_report(manifest(evidence={"comparison": [plain]}))).text.split())
    assert "onnx-int8 +0.0 +0.0 to +1.0 - " in text
    assert "images that differ" not in text
    older = {key: value for key, value in COMPARED.items() if key != "scores"}
    assert "Scores" not in Page(render_report(manifest(evidence={"comparison": [older]}))).text


def test_other_images_than_those_of_calibration_are_shown() -> None:
    text = " ".join(Page(render_report(manifest(), NOISE, MEASURED)).text.split())
    assert "WARNING: the evaluation images are of another kind than the calibration images" in text
    assert "block_1_depthwise_relu/Clip 0.02 % 12 % 98 % 169 % clipped share larger in 100 % of image pairs" in text
    (tile,) = (tile for tile in tiles(manifest(), MEASURED) if tile.title == "Calibration images")
    assert (tile.state, tile.said) == ("care", "2 of 67 layers differ")


def test_a_domain_check_without_evaluation_images() -> None:
    worst = [{"layer": "conv1/Relu", "clipped": [0.01, None], "used": [0.9, None]}]
    domain = {"held_back": 50, "images": 0, "layers": 6, "exceeded": [4, 0], "differing": 0, "p_value": None}
    alone = manifest(evidence={"domain": {**domain, "worst": worst}})
    text = " ".join(Page(render_report(alone)).text.split())
    assert "since no --eval images are given" in text
    assert "conv1/Relu 1 % 90 %" in text
    assert not [tile for tile in tiles(alone, MEASURED) if tile.title == "Calibration images"]


def test_it_opens_with_a_verdict_and_the_promises() -> None:
    lines = ("PASS max-drop 1 (onnx-int8): lost -0.6 points", "FAIL min-agreement 99 (onnx-int8): 98.5 %")
    html = render_report(manifest(), NOISE, replace(MEASURED, promises=lines))
    text = " ".join(Page(html).text.split())
    assert (
        "mobilenetv2-int8 keeps the class of keras on 98.5 % of 677 images and gains 0.6 points of top-1. It has 3.7 "
        "MB instead of 14.0 MB, and takes 0.51x of the time of its float32 model on the exporting machine. "
        f"{lines[0]} {lines[1]} " in text
    )
    assert ('<li class="good">PASS' in html, '<li class="care">FAIL' in html) == (True, True)


def test_warnings_stand_above_everything_that_was_measured() -> None:
    doubtful = manifest(evidence={**EVIDENCE, "notes": ["a note", "WARNING: a doubt"]})
    for seen in (None, replace(MEASURED, warnings=("WARNING: a doubt",))):
        html = render_report(doubtful, NOISE, seen)
        assert html.count("a doubt") == 1
        assert html.index("a doubt") < html.index('<div class="tiles">') < html.index("a note")


def test_changed_images_are_sorted_by_what_changed() -> None:
    images = [Changed("a", "x", "y", truth, "") for truth in ("x", "y", "z", "")]
    assert [image.kind for image in images] == ["newly wrong", "newly right", "wrong either way", "changed"]
    html = render_report(manifest(), NOISE, replace(MEASURED, changed=tuple(images[:3]), changes=3))
    text = " ".join(Page(html).text.split())
    assert "newly wrong: 1 x → y a newly right: 1 x → y a wrong either way: 1 x → y a: it is z" in text
