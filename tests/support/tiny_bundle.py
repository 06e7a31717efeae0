"""A network of 33 numbers and the bundle around it, made in milliseconds; for the tests of several folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
from numpy.typing import NDArray

from xxdeploy.bundle.pack import golden_images, pack
from xxdeploy.runtime.bundle.contents import npy_from_array, text_from_labels
from xxdeploy.runtime.bundle.manifest import GoldenSpec, Manifest, Variant
from xxdeploy.runtime.image.preprocess import Preprocess

PREPROCESS = Preprocess(8, 8)
CLASSES = 10
LABELS = tuple(f"class {index}" for index in range(CLASSES))


def model_bytes(*, seed: int = 0, features: bool = False) -> bytes:
    """Global average pool, Gemm, Softmax; or the pool alone."""
    random = np.random.default_rng(seed)
    weights = ", ".join(f"{value:.4f}" for value in random.normal(size=3 * CLASSES) * 4)
    output, width = ("features", 3) if features else ("probabilities", CLASSES)
    tail = """
     scores = Gemm(features, weights, bias)
     probabilities = Softmax<axis=-1>(scores)
    """
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    tiny (float[batch, 8, 8, 3] image) => (float[batch, {width}] {output})
    <float[3, {CLASSES}] weights = {{{weights}}},
     float[{CLASSES}] bias = {{{", ".join(["0.1"] * CLASSES)}}},
     int64[2] axes = {{2, 3}}>
    {{
     nchw = Transpose<perm=[0, 3, 1, 2]>(image)
     pooled = GlobalAveragePool(nchw)
     features = Squeeze(pooled, axes)
     {"" if features else tail}
    }}
    """
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def expected(images: NDArray[np.uint8], model: bytes) -> NDArray[np.float32]:
    """What ONNX Runtime gives, the way an exporter would record it."""
    from xxdeploy.runtime.engines.ort import OrtSession

    return OrtSession(model, threads=1).run(PREPROCESS.normalize(images))


def parts_and_manifest(*, seed: int = 0, features: bool = False) -> tuple[dict[str, bytes], Manifest]:
    """Everything that ``pack`` takes."""
    model = model_bytes(seed=seed, features=features)
    images = golden_images(4, 8, 8, 3)
    parts = {
        "model.onnx": model,
        "golden/inputs.npy": npy_from_array(images),
        "golden/portable.npy": npy_from_array(expected(images, model)),
    }
    if not features:
        parts["labels.txt"] = text_from_labels(LABELS)
    manifest = Manifest(
        schema=1,
        name=f"tiny-{seed}",
        task="features" if features else "classification",
        input_name="image",
        output_name="features" if features else "probabilities",
        preprocess=PREPROCESS,
        classes=0 if features else CLASSES,
        labels=None if features else "labels.txt",
        variants=(Variant("portable", "model.onnx", "fp32", "float32", "golden/portable.npy"),),
        golden=GoldenSpec("golden/inputs.npy", 1e-5),
        files=(),
        tools={"test": "1"},
        source={"model": "tiny"},
        evidence={"note": "made by a test"},
    )
    return parts, manifest


def make(out: Path, *, seed: int = 0, features: bool = False) -> Path:
    """Write a whole bundle to ``out``."""
    parts, manifest = parts_and_manifest(seed=seed, features=features)
    return pack(manifest, parts, out)


def make_picture(out: Path, **changes: Any) -> Path:
    """Write a bundle whose network returns the picture that it gets; ``changes`` are those of its manifest."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    tiny (float[batch, 8, 8, 3] image) => (float[batch, 8, 8, 3] picture) { picture = Identity(image) }
    """
    model = bytes(onnx.parser.parse_model(text).SerializeToString(deterministic=True))
    parts, manifest = parts_and_manifest()
    images = golden_images(4, 8, 8, 3)
    parts = {
        "model.onnx": model,
        "golden/inputs.npy": npy_from_array(images),
        "golden/portable.npy": npy_from_array(expected(images, model)),
    }
    about = {"schema": 4, "task": "image", "output_name": "picture", "classes": 0, "labels": None}
    values = {**about, "output_range": (-1.0, 1.0), **changes}
    return pack(dataclasses.replace(manifest, **values), parts, out)


def make_values(out: Path) -> Path:
    """Write a bundle whose network returns three numbers."""
    parts, manifest = parts_and_manifest(features=True)
    return pack(dataclasses.replace(manifest, schema=4, task="values"), parts, out)
