"""Exports of models that read texts: from the model file to the device."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from user_nets import saved, shaken

from xxdeploy.cli import main
from xxdeploy.datasets import open_images
from xxdeploy.diagnose.first_fault import open_reference
from xxdeploy.diagnose.measures import check_agreement
from xxdeploy.diagnose.verify_bundle import verify_bundle
from xxdeploy.errors import UsageError
from xxdeploy.exporter import ExportOptions, ExportResult, export
from xxdeploy.exporter.promises import check_sequence
from xxdeploy.runtime import load
from xxdeploy.runtime.answers import reading_from
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.image.preprocess import Preprocess

L = keras.layers
HEIGHT, WIDTH, COUNT = 8, 20, 24
ALPHABET = "ab "


def reader() -> keras.Model:
    """Return a network for pictures with rows and columns exchanged, as keras.io's example has them."""
    keras.utils.set_random_seed(5)
    image = keras.Input((WIDTH, HEIGHT, 1))
    hidden = L.Conv2D(6, 3, padding="same", activation="relu")(L.Rescaling(1 / 255)(image))
    hidden = L.Reshape((WIDTH // 2, HEIGHT // 2 * 6))(L.MaxPooling2D(2)(hidden))
    hidden = L.Bidirectional(L.LSTM(6, return_sequences=True))(hidden)
    model = shaken(keras.Model(image, L.Dense(4, "softmax", name="text")(hidden), name="reader"))
    model.get_layer("text").set_weights([4 * weights for weights in model.get_layer("text").get_weights()])
    return model


def truth(model: keras.Model, pixels: np.ndarray) -> str:
    steps = np.asarray(model(pixels.T[None, ..., None].astype(np.float32)))[0]
    return reading_from(steps, (*ALPHABET, ""), 3).text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportResult, Path]:
    root, model = tmp_path_factory.mktemp("texts"), reader()
    random = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        (root / name).mkdir()
        rows = [("file", "label")]
        for number in range(COUNT):
            pixels = np.kron(random.integers(0, 256, (2, 5)), np.ones((4, 4))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
            rows.append((f"{number:02}.png", truth(model, pixels)))
        if name == "evaluation":
            with (root / name / "labels.csv").open("w", newline="") as file:
                csv.writer(file).writerows(row for row in rows if row[1].strip())
    (root / "alphabet.txt").write_text("a\nb\n \n")
    asked = {"task": "sequence", "labels": root / "alphabet.txt", "ctc_blank": "last", "transpose": True}
    folders = {"calibration": root / "calibration", "evaluation": root / "evaluation"}
    options = ExportOptions.of("int8", effort="quick", keep_fp32=True, min_agreement=20.0, **asked, **folders)
    return export(saved(model, root / "reader.keras"), options, root / "bundle"), root


def test_whole_texts_and_characters_are_measured(made: tuple[ExportResult, Path]) -> None:
    result, _ = made
    keras_row, floats, int8 = result.rows[:3]
    assert {figure.name: figure.value for figure in keras_row.figures} == {"right_texts": 1.0, "wrong_characters": 0.0}
    assert [figure.name for figure in int8.figures] == ["same_texts", "right_texts", "wrong_characters"]
    assert floats.figures[0].value == 1.0
    assert result.conclusions.promises[0].startswith("PASS min-agreement 20 (onnx-int8)")
    manifest = Manifest.from_json((result.bundle / "manifest.json").read_bytes())
    assert (manifest.schema, manifest.task, manifest.classes, manifest.blank) == (5, "sequence", 4, 3)
    assert isinstance(manifest.preprocess, Preprocess)
    assert (manifest.preprocess.height, manifest.preprocess.width) == (HEIGHT, WIDTH)
    assert (result.bundle / "labels.txt").read_text() == "a\nb\n \n<blank>\n"


def test_the_device_reads_what_keras_does(made: tuple[ExportResult, Path], capsys: pytest.CaptureFixture[str]) -> None:
    result, root = made
    with (root / "evaluation" / "labels.csv").open(newline="") as file:
        true = {row["file"]: row["label"] for row in csv.DictReader(file)}
    with load(result.bundle, variant="fp32", selftest=True) as runtime:
        read = {name: runtime.read(root / "evaluation" / name).text.strip() for name in true}
    assert read == {name: text.strip() for name, text in true.items()}
    name = next(iter(true))
    assert main(["predict", str(result.bundle), str(root / "evaluation" / name), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["text"].strip() in (true[name].strip(), read[name])


def test_a_bundle_is_verified_on_texts(made: tuple[ExportResult, Path]) -> None:
    result, root = made
    (row,) = verify_bundle(result.bundle, evaluation=root / "evaluation").rows
    assert [figure.name for figure in row.figures] == ["right_texts", "wrong_characters"]
    shipped = next(known for known in result.rows if known.runner == "onnx-int8")
    assert row.figures[0].value == pytest.approx(shipped.figures[1].value, abs=0.2)  # another processor's file


def test_the_characters_are_asked_for_before_any_work() -> None:
    for asked, code in (({}, "labels-missing"), ({"labels": Path("a.txt")}, "ctc-blank")):
        with pytest.raises(UsageError) as caught:
            check_sequence(ExportOptions.of("fp32", task="sequence", **asked))
        assert caught.value.code == code
    check_sequence(ExportOptions.of("fp32", task="sequence", labels=Path("a.txt"), ctc_blank="first"))
    check_sequence(ExportOptions.of("fp32"))
    with pytest.raises(UsageError, match="reads texts"):
        check_sequence(ExportOptions.of("fp32", ctc_blank="first"))


def test_the_plugin_compares_texts_with_the_float_graph(made: tuple[ExportResult, Path]) -> None:
    result, root = made
    with load(result.bundle) as runtime:
        reference = open_reference(runtime.manifest, str(root / "reader.keras"))
        images = open_images(root / "evaluation")
        assert check_agreement(runtime, reference, images, 0.2)["agreement"].endswith("(at least 20.0%)")
