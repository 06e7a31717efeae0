"""An export doubts a pipeline that costs accuracy; ``--preprocess auto`` takes the one that the pictures support."""

from __future__ import annotations

import json
from pathlib import Path

import picturetasks
import pytest
from codes import code_of
from picturetasks import SIDE, NearestMean

from xxdeploy.cli import main
from xxdeploy.datasets import Labels, infer_labels
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.exporter.find_pipeline import check_auto, class_orders
from xxdeploy.exporter.option_groups import NetworkOptions
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.sizing import Sizing

NUMBERS = tuple(map(str, range(11)))
SIZE = (SIDE, SIDE, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven numbered classes of fine lines, whose pictures are larger than the input."""
    root = tmp_path_factory.mktemp("lines")
    picturetasks.write(root / "val", picturetasks.lines, NUMBERS[:6])
    return root


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("colors")
    return picturetasks.write(root / "val", picturetasks.colors, NUMBERS)


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    preprocess = Preprocess(*SIZE, "tf", Sizing(resample="nearest"))
    return NearestMean(folder / "val", NUMBERS[:6], preprocess).save(folder / "lines.keras")


def test_an_export_names_the_option_that_mends_it_before_its_table(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["export", str(model), "--eval", str(folder / "val"), "--preprocess", "tf", "--out"]
    assert main([*asked, str(tmp_path / "wrong")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("WARNING: the pictures support another pipeline")
    assert "100.0 % top-1 with --resample nearest" in first
    page = (tmp_path / "wrong" / "report.html").read_text()
    assert page.index("another pipeline") < page.index("From Keras to the device")
    options = ExportOptions.of(evaluation=folder / "val", preprocess="tf", resample="nearest")
    right = export(model, options, tmp_path / "right")
    assert right.conclusions.warnings == ()
    assert right.rows[0].top1 == 1


def test_auto_takes_what_the_pictures_support(folder: Path, model: Path, tmp_path: Path) -> None:
    options = ExportOptions.of(evaluation=folder / "val", preprocess="auto")
    result = export(model, options, tmp_path / "out")
    assert load(result.bundle).manifest.preprocess == Preprocess(*SIZE, "tf", Sizing(resample="nearest"))
    assert any("support --preprocess tf --resample nearest: 100.0 % top-1" in note for note in result.notes)


def test_auto_needs_pictures_and_a_model_file(model: Path, tmp_path: Path) -> None:
    options = ExportOptions.of(preprocess="auto")
    assert code_of(check_auto, options) == "auto-preprocess"
    assert code_of(export, model, options, tmp_path / "a") == "auto-preprocess"
    assert code_of(export, find("lenet"), options.changed(weights="none"), tmp_path / "b") == "auto-preprocess"


def test_auto_refuses_to_guess(model: Path, tmp_path: Path) -> None:
    picturetasks.write(tmp_path / "val", picturetasks.plain, NUMBERS[:6])
    options = ExportOptions.of(evaluation=tmp_path / "val", preprocess="auto")
    assert code_of(export, model, options, tmp_path / "out") == "auto-preprocess"


def test_the_orders_of_numbered_folders(numbered: Path) -> None:
    labels = infer_labels(numbered, 11)[0]
    assert labels is not None
    orders = class_orders(numbered, 11, labels, NetworkOptions(), None)
    assert orders.given == "text"
    assert list(orders.truths) == ["text", "numeric"]
    assert orders.options == {"text": (), "numeric": ("--class-order", "numeric")}
    numbers = [int(file.parent.name) for file in orders.images.files]
    assert orders.truths["numeric"] == tuple(numbers)
    assert len(set(numbers[: len(NUMBERS)])) > 5  # the first pictures are of many classes


def test_a_file_of_labels_beside_the_pictures_is_an_order(tmp_path: Path) -> None:
    names = ("cat", "dog", "ant")
    picturetasks.write(tmp_path / "val", picturetasks.colors, names)
    indices = tmp_path / "class_indices.json"
    indices.write_text(json.dumps({name: index for index, name in enumerate(names)}))
    labels = Labels(tuple(sorted(names)))
    orders = class_orders(tmp_path / "val", 3, labels, NetworkOptions(), None)
    assert orders.options == {"text": (), "class_indices.json": ("--labels", str(indices))}
    given = class_orders(tmp_path / "val", 3, Labels(names), NetworkOptions(labels=indices), None)
    assert given.options == {"class_indices.json": (), "text": ("--class-order", "text")}
