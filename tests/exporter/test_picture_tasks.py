"""Exports of models that make pictures, masks or numbers: from the model file to the device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from user_nets import saved

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.exporter import ExportOptions, ExportResult, export
from xxdeploy.exporter.source import image_request
from xxdeploy.pytest_plugin.subject import Subject, SubjectOptions
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.manifest import Manifest

L = keras.layers
SIDE, COUNT = 16, 24


def scene(seed: int) -> np.ndarray:
    """A square of another color on a plain picture."""
    random = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE, 3), random.integers(20, 90), np.uint8)
    row, column = random.integers(1, 9, 2)
    pixels[row : row + 6, column : column + 6] = (200, random.integers(120, 240), 60)
    return pixels + random.integers(0, 8, pixels.shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pictures")
    for start, name in enumerate(("calibration", "evaluation")):
        (root / name).mkdir()
        for number in range(COUNT):
            Image.fromarray(scene(1000 * start + number)).save(root / name / f"{number:02}.png")
    return {"calibration": root / "calibration", "evaluation": root / "evaluation"}


def body(image: object) -> object:
    """Two convolutions that see how bright and how red a place is, with fixed weights."""
    keras.utils.set_random_seed(3)
    hidden = L.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    return L.Conv2D(8, 3, padding="same", activation="relu", name="second")(hidden)


def net(kind: str) -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3))
    scaled = L.Rescaling(1 / 255)(image)
    hidden = body(scaled)
    if kind == "picture":
        clean = L.Conv2D(3, 1, activation="sigmoid", name="clean")(hidden)
        return keras.Model(image, clean, name="cleaner")
    if kind == "mask":
        return keras.Model(image, L.Conv2D(3, 1, activation="softmax", name="classes")(hidden), name="masker")
    return keras.Model(image, L.Dense(2, name="points")(L.GlobalAveragePooling2D()(hidden)), name="pointer")


@pytest.fixture(scope="module")
def exported(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportResult]:
    root, made = tmp_path_factory.mktemp("bundles"), {}
    (root / "names.txt").write_text("ground\nroad\nsquare\n")
    asked: dict[str, dict[str, Any]] = {
        "picture": {"min_psnr": 20.0},
        "mask": {"min_iou": 0.5, "labels": root / "names.txt"},
        "values": {"max_error": 10.0},
    }
    for kind, promise in asked.items():
        task = "values" if kind == "values" else "image"
        options = ExportOptions.of(
            "int8", task=task, effort="quick", keep_fp32=True, pictures=True, **folders, **promise
        )
        made[kind] = export(saved(net(kind), root / f"{kind}.keras"), options, root / kind)
    return made


@pytest.mark.parametrize(
    ("kind", "figures"),
    [
        ("picture", ["psnr", "ssim"]),
        ("mask", ["iou", "pixels"]),
        ("values", ["p95_error", "mean_error", "largest_error"]),
    ],
)
def test_each_kind_is_measured_by_its_task(exported: dict[str, ExportResult], kind: str, figures: list[str]) -> None:
    result = exported[kind]
    keras_row, floats, int8 = result.rows[:3]
    assert keras_row.figures == ()
    assert [figure.name for figure in int8.figures] == [figure.name for figure in floats.figures] == figures
    better = floats.figures[0].value >= int8.figures[0].value
    assert better if floats.figures[0].kind.rises else floats.figures[0].value <= int8.figures[0].value
    assert all(line.startswith("PASS") for line in result.conclusions.promises)
    manifest = Manifest.from_json((result.bundle / "manifest.json").read_bytes())
    assert (manifest.schema, manifest.task) == (5, "values" if kind == "values" else "image")
    assert manifest.classes == (3 if kind == "mask" else 0)
    assert manifest.output_range == ((0.0, 1.0) if kind == "picture" else None)


@pytest.mark.parametrize("kind", ["picture", "mask", "values"])
def test_the_float_file_computes_what_keras_does(
    exported: dict[str, ExportResult], folders: dict[str, Path], kind: str
) -> None:
    picture = folders["evaluation"] / "00.png"
    right = np.asarray(net(kind)(np.asarray(Image.open(picture), np.float32)[None]))
    runtime = load(exported[kind].bundle, variant="fp32", selftest=True)
    np.testing.assert_allclose(runtime.run(picture)[runtime.manifest.output_name], right, atol=1e-5)
    if kind == "picture":
        assert np.array_equal(np.asarray(runtime.image(picture)), np.rint(255 * right[0]).astype(np.uint8))
    elif kind == "mask":
        assert np.array_equal(np.asarray(runtime.image(picture)), right[0].argmax(-1))
        assert runtime.labels == ("ground", "road", "square")
    else:
        np.testing.assert_allclose(runtime.values(picture), right, atol=1e-5)


def test_a_broken_promise_writes_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    options = ExportOptions.of("int8", task="values", effort="quick", max_error=1e-9, **folders)
    with pytest.raises(VerificationError, match="FAIL max-error 1e-09") as caught:
        export(saved(net("values"), tmp_path / "v.keras"), options, tmp_path / "out")
    assert caught.value.code == "error-high"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "option", "impossible"),
    [("picture", "min_psnr", 99.0), ("mask", "min_iou", 1.0), ("values", "max_error", 1e-9)],
)
def test_the_plugin_compares_it_with_keras(
    exported: dict[str, ExportResult], folders: dict[str, Path], kind: str, option: str, impossible: float
) -> None:
    bundle = exported[kind].bundle
    subject = Subject(bundle, SubjectOptions(model=f"{bundle}.keras", evaluation=folders["evaluation"]))
    assert option.replace("_", "-") in subject.check_agreement()["agreement"]
    assert "onnx-fp32" in subject.check_parity()
    asked = replace(SubjectOptions(evaluation=folders["evaluation"]), **dict[str, Any]({option: impossible}))
    with pytest.raises(VerificationError, match=f"FAIL {option.replace('_', '-')}"):
        Subject(bundle, asked, reference=subject.reference).check_agreement()
    of_others: dict[str, Any] = {"max_error" if kind != "values" else "min_iou": 0.5}
    other = replace(SubjectOptions(evaluation=folders["evaluation"]), **of_others)
    with pytest.raises(UsageError) as caught:
        Subject(bundle, other, reference=subject.reference).check_agreement()
    assert caught.value.code == "promise-task"
    with pytest.raises(pytest.skip.Exception, match="no labels"):
        subject.check_accuracy()


def test_the_report_shows_pairs_of_pictures(exported: dict[str, ExportResult]) -> None:
    pages = {kind: (result.bundle / "report.html").read_text(encoding="utf-8") for kind, result in exported.items()}
    assert [page.count('alt="difference"') for page in pages.values()] == [6, 6, 0]
    assert "8 times enlarged" in pages["picture"]
    assert "times enlarged" not in pages["mask"]


def test_the_evidence_has_the_figures(exported: dict[str, ExportResult]) -> None:
    document = json.loads((exported["mask"].bundle / "manifest.json").read_text())
    (floats, int8, *_) = document["evidence"]["comparison"]
    assert [figure["name"] for figure in int8["figures"]] == ["iou", "pixels"]
    assert floats["figures"][0]["value"] == 1.0
    assert document["evidence"]["ladder"][0]["figures"][0]["name"] == "iou"
    assert document["source"]["output_range"] == "classes"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"task": "values", "output_range": "0..1"}, "add --task image"),
        ({"output_range": "classes"}, "add --task image"),
        ({"task": "image", "output_range": "0..1", "min_iou": 0.9}, "--min-iou is about a mask of classes"),
        ({"task": "image", "output_range": "classes", "min_psnr": 40.0}, "--min-psnr about a picture"),
        ({"task": "image", "labels": Path("names.txt"), "output_range": "0..1"}, "--labels is about a mask"),
    ],
)
def test_options_about_pixels_and_about_classes_contradict_each_other(asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        image_request(ExportOptions.of("int8", **asked))
    assert caught.value.code == "output-range"
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("text", ["0", "1..0", "0..0", "a..b", "0..nan", "..", "0,1", "classes.."])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ExportOptions.of("fp32", task="image", output_range=text)
    assert caught.value.code == "output-range"
