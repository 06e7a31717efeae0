"""A manifest, what an export measured, and a parser of pages, for the tests of the report."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from xxdeploy.report import Changed, Measured, Timing
from xxdeploy.results import ComparisonRecord, LayerNoise, Rung
from xxdeploy.runtime.bundle.manifest import GoldenSpec, Manifest, Variant
from xxdeploy.runtime.image.preprocess import Preprocess

COMPARED: dict[str, Any] = {
    "reference": "keras", "candidate": "onnx-int8", "images": 677, "sqnr_db": 25.9, "cosine": 0.94,
    "agreement": 0.9852, "agreement_interval": [0.973, 0.992], "kl_nats": 0.0063, "top1": [0.7829, 0.7888],
    "change": 0.0059, "change_interval": [-0.0023, 0.014], "gained": 5, "lost": 1, "mcnemar_p": 0.219,
    "scores": {"mean": -0.0123, "p5": -0.101, "p95": 0.0456, "calibration_error": [0.0411, 0.0522],
               "threshold": {"reference": 0.5, "candidate": 0.4789, "differing": 1, "unchanged": 6}},
}  # fmt: skip
EVIDENCE: dict[str, Any] = {
    "parity": [
        {"reference": "keras", "candidate": "onnx-fp32, unoptimized", "images": 9, "max_abs": 2e-6, "mean_abs": 1e-9,
         "max_rel": 2e-6, "cosine": 1.0, "agreement": 1.0},
        {"reference": "keras", "candidate": "onnx-fp32", "images": 9, "max_abs": 3.2e-6, "mean_abs": 1e-9,
         "max_rel": 3e-6, "cosine": 1.0, "agreement": 1.0},
    ],
    "comparison": [COMPARED],
    "domain": {
        "held_back": 64, "images": 64, "layers": 67, "exceeded": [40, 52], "differing": 2, "p_value": 0.00033,
        "worst": [
            {"layer": "block_1_depthwise_relu/Clip", "clipped": [0.0002, 0.1234], "used": [0.98, 1.69],
             "figure": "clipped share", "larger": 1.0},
            {"layer": "colors of the input image", "clipped": [None, None], "used": [None, None],
             "figure": "saturation", "larger": 0.01},
        ],
    },
    "accuracy": {"images": 677, "data_sha256": "7" * 64, "runners": [
        {"runner": "keras", "top1": 0.7829, "top5": 0.948, "agreement": 1.0},
        {"runner": "onnx-int8", "top1": 0.7888, "top5": 0.944, "agreement": 0.9852},
    ]},
    "calibration": {"images": 300, "method": "mse", "data_sha256": "a" * 64},
    "passes": [{"step": "fold_affine", "changed": 52, "nodes": 101}],
    "recipe": {"scheme": "static-w8c-a8"},
    "notes": ["a note"],
}  # fmt: skip
SELECTED = ComparisonRecord(
    "onnx-fp32", "onnx-int8", 256, 0.97, 25.0, agreement=0.988, agreement_interval=(0.966, 0.996), kl_nats=0.003,
    top1=(0.8, 0.796), change=-0.004, change_interval=(-0.014, 0.006),
)  # fmt: skip
MEASURED = Measured(
    timings=(
        Timing("keras", 14_000_000, (20.0, 21.0, 22.0)),
        Timing("onnx-fp32", 14_000_000, (8.0, 8.1, 9.0)),
        Timing("onnx-int8", 3_700_000, (4.0, 4.1, 40.0)),
    ),
    steps=(("build", 2.0), ("remove_identity", 0.001), ("quantize", 30.0)),
    rungs=(Rung("recipe mobilenetv2", True, SELECTED, 4.6, 10.0, 40.0),),
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

    def handle_data(self, text: str) -> None:
        if "style" not in self.open:
            self.text += f"{text} "
