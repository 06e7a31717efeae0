"""Manifests of every schema, and the error of a spoiled one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.manifest import FileEntry, GoldenSpec, Manifest, MoreOutput, Variant
from xxdeploy.runtime.bundle.tensors import InputTensor, OutputTensor
from xxdeploy.runtime.image.preprocess import Preprocess

SHA = "0" * 64


def good() -> Manifest:
    return Manifest(
        schema=1,
        name="tiny-int8",
        task="classification",
        input_name="image",
        output_name="probabilities",
        preprocess=Preprocess(8, 8),
        classes=10,
        labels="labels.txt",
        variants=(
            Variant("vnni", "model.vnni.onnx", "int8", "static-w8c-a8", "golden/vnni.npy", ("vnni",)),
            Variant("portable", "model.onnx", "int8", "static-w7c-a8", "golden/portable.npy"),
        ),
        golden=GoldenSpec("golden/inputs.npy", 1e-4),
        files=tuple(
            FileEntry(path, SHA, 3)
            for path in (
                "golden/inputs.npy",
                "golden/portable.npy",
                "golden/vnni.npy",
                "labels.txt",
                "model.onnx",
                "model.vnni.onnx",
            )
        ),
        tools={"keras": "3.15.1"},
        source={"model": "tiny", "options": {"alpha": 0.35}},
        evidence={"parity": [{"max_abs": 1e-7}], "note": "é"},
    )


def document() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(good().to_json())
    return parsed


def code_of(text: str | bytes) -> str:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(text)
    assert caught.value.hint
    assert len(caught.value.message) < 1000
    return caught.value.code


def several() -> Manifest:
    """A bundle with an output beside the first, which only schema 2 can say."""
    more = MoreOutput("embedding", "features", 0, ("golden/vnni.npy", "golden/portable.npy"), 0.5)
    return dataclasses.replace(good(), schema=2, more_outputs=(more,))


def picture() -> Manifest:
    """A bundle that makes pictures, which only schema 4 can say."""
    return dataclasses.replace(good(), schema=4, task="image", classes=0, labels=None, output_range=(0.0, 1.0))


def mask() -> Manifest:
    """A bundle that gives each pixel a class."""
    return dataclasses.replace(picture(), classes=10, labels="labels.txt", output_range=None)


def values() -> Manifest:
    return dataclasses.replace(picture(), task="values", output_range=None)


def sequence() -> Manifest:
    """A bundle that reads texts."""
    return dataclasses.replace(good(), schema=4, task="sequence", blank=9)


def current() -> Manifest:
    """A bundle of the schema that is written today: each variant lists its inputs and outputs."""
    image = InputTensor("image", "uint8", (None, 8, 8, 3), "NHWC")
    output = OutputTensor("probabilities", "float32", (None, 10))
    variants = tuple(dataclasses.replace(held, inputs=(image,), outputs=(output,)) for held in good().variants)
    return dataclasses.replace(good(), schema=5, variants=variants)
