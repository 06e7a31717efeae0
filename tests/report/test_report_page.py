"""The page of a bundle: what it says, and what it never does."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from xxdeploy.artifacts import LayerNoise
from xxdeploy.report import Changed, LadderRung, Measured, Timing, render_report
from xxdeploy.report.verdicts import verdicts
from xxdeploy.runtime.manifest import GoldenSpec, Manifest, Variant
from xxdeploy.runtime.preprocess import Preprocess

COMPARED: dict[str, Any] = {
    "reference": "keras", "candidate": "onnx-int8", "images": 677, "sqnr_db": 25.9, "cosine": 0.94,
    "agreement": 0.9852, "agreement_interval": [0.973, 0.992], "kl_nats": 0.0063, "top1": [0.7829, 0.7888],
    "change": 0.0059, "change_interval": [-0.0023, 0.014], "gained": 5, "lost": 1, "mcnemar_p": 0.219,
}  # fmt: skip
EVIDENCE: dict[str, Any] = {
    "parity": [
        {"reference": "keras", "candidate": "onnx-fp32, unoptimised", "images": 9, "max_abs": 2e-6, "mean_abs": 1e-9,
         "max_rel": 2e-6, "cosine": 1.0, "agreement": 1.0},
        {"reference": "keras", "candidate": "onnx-fp32", "images": 9, "max_abs": 3.2e-6, "mean_abs": 1e-9,
         "max_rel": 3e-6, "cosine": 1.0, "agreement": 1.0},
    ],
    "comparison": [COMPARED],
    "accuracy": {"images": 677, "data_sha256": "7" * 64, "runners": [
        {"runner": "keras", "top1": 0.7829, "top5": 0.948, "agreement": 1.0},
        {"runner": "onnx-int8", "top1": 0.7888, "top5": 0.944, "agreement": 0.9852},
    ]},
    "calibration": {"images": 300, "method": "mse", "data_sha256": "a" * 64},
    "passes": [{"step": "fold_affine", "changed": 52, "nodes": 101}],
    "recipe": {"scheme": "static-w8c-a8"},
    "notes": ["a note"],
}  # fmt: skip
MEASURED = Measured(
    timings=(
        Timing("keras", 14_000_000, (20.0, 21.0, 22.0)),
        Timing("onnx-fp32", 14_000_000, (8.0, 8.1, 9.0)),
        Timing("onnx-int8", 3_700_000, (4.0, 4.1, 40.0)),
    ),
    steps=(("build", 2.0), ("remove_identity", 0.001), ("quantise", 30.0)),
    rungs=(LadderRung("recipe mobilenetv2", True, 0.988, 0.004, 0.003, 25.0, 0.46, 40.0),),
    candidate="onnx-int8",
    changes=2,
    changed=(Changed("n1/a.jpg", "tabby", "tiger cat", "tabby", "data:image/jpeg;base64,AAAA"),),
    confused=(("tabby", "tiger cat", 2),),
    sheet=("data:image/jpeg;base64,BBBB",),
    sentences=("a sentence",),
    processors=("int8, for x86 with VNNI",),
    command="xxdeploy export mobilenetv2 --int8",
)
NOISE = tuple(LayerNoise(f"block_{i}/Conv", "Conv", 20.0 + i, 30.0, 31.0, 32.0, 19.0) for i in range(40))


def manifest(**changes: Any) -> Manifest:
    """Return the manifest of an INT8 network."""
    made = Manifest(
        schema=1, name="mobilenetv2-int8", task="classification", input_name="image", output_name="probabilities",
        preprocess=Preprocess(224, 224), classes=1000, labels=None,
        variants=(Variant("int8", "model.onnx", "int8", "static-w8c-a8", "golden/outputs.npy", ("vnni",)),),
        golden=GoldenSpec("golden/inputs.npy", 0.1), files=(), tools={"xxdeploy": "0.1.0"},
        source={"model": "mobilenetv2"}, evidence=EVIDENCE,
    )  # fmt: skip
    return replace(made, **changes)


class Page(HTMLParser):
    """The page's text, tags and attributes; unclosed tags are noticed."""

    VOID = frozenset(("meta", "img", "br"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "


def test_everything_that_was_measured_is_there() -> None:
    page = Page(render_report(manifest(), NOISE, MEASURED))
    text = " ".join(page.text.split())
    for words in (
        "78.3 → 78.9", "+0.6 points (95 %: -0.2 to +1.4), 677 images",
        "98.5 %", "of images keep the class of keras (95 %: 97.3 to 99.2)",
        "3.8 times smaller", "0.51x of float32 in the same run", "3.2e-06",
        "2 images changed class in onnx-int8", "tabby → tiger cat", "no longer right",
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
    found = manifest(source={"model": evil}, tools={evil: evil}, evidence={**EVIDENCE, "notes": [evil]})
    page = Page(render_report(found, noise, seen))
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
    found = verdicts(manifest(evidence={**EVIDENCE, "comparison": [{**COMPARED, **change}]}), MEASURED)
    assert next(each.state for each in found if each.title == title) == state


def test_a_file_that_is_no_faster_says_so() -> None:
    slow = replace(MEASURED, timings=(*MEASURED.timings[:2], Timing("onnx-int8", 3_700_000, (9.0, 9.0, 9.0))))
    (time,) = (each for each in verdicts(manifest(), slow) if each.title == "Time")
    assert time.state == "care"
    assert "not faster" in time.more
