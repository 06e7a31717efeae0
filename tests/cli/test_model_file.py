"""``xxdeploy doctor MODEL`` and ``xxdeploy inspect MODEL``: facts, then the verdict."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from model_files import archive, layer, legacy, model

from xxdeploy.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", ["doctor", "inspect"])
def test_a_model_that_exports(tmp_path: Path, capsys: Capture, command: str) -> None:
    assert main([command, str(legacy(tmp_path / "model.keras"))]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "model.keras is an HDF5 file" in out
    assert "written by  Keras 3.15.1" in out
    assert "inputs      image (any, 4, 4, 3)" in out
    assert "parameters  147" in out
    assert "note: model.keras is an HDF5 file, and was read as one" in out
    assert "it will export" in out


def test_a_model_that_does_not(tmp_path: Path, capsys: Capture) -> None:
    path = archive(tmp_path / "a.keras", model(layer("mine", "Swish", {"name": "s"}, "image")))
    assert main(["doctor", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "layers      3" in out
    assert "it will export" not in out
    assert err.startswith("error[custom-object]")
    assert "--custom-objects mine:Swish" in err
    assert main(["doctor", str(path), "--custom-objects", "mine:Swish"]) == 0


def test_json(tmp_path: Path, capsys: Capture) -> None:
    path = archive(tmp_path / "a.keras", model(layer("mine", "Swish", {"name": "s"}, "image")))
    assert main(["doctor", str(path), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["form"], told["layers"], told["exports"]) == ("a .keras archive", 3, False)
    assert told["problem"]["code"] == "custom-object"
    assert main(["inspect", str(archive(tmp_path / "b.keras")), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["exports"], told["problem"], told["inputs"]) == (True, None, [["image", [None, 4, 4, 3]]])


def test_names_in_any_letters(tmp_path: Path, capsys: Capture) -> None:
    """A file name that is not UTF-8, and layers with spaces, Cyrillic, slashes and 200 characters."""
    names = ("слой 1", "a/b\\c", "x" * 200, "\x1b[31mred")
    config = model(*(layer("keras.layers", "ReLU", {"name": name}, "image") for name in names))
    for suffix, write in (("keras", archive), ("h5", legacy)):
        path = write(tmp_path / f"plain.{suffix}", config)
        odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe9l " + suffix.encode()))
        try:
            path.rename(odd)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        assert main(["doctor", str(odd)]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert main(["doctor", str(odd), "--json"]) == 0
        json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", ["doctor", "inspect"])
def test_a_saved_model_folder(tmp_path: Path, capsys: Capture, command: str) -> None:
    pytest.importorskip("tensorflow")
    from saved_models import write_module

    folder = write_module(tmp_path / "net")
    assert main([command, f"{folder}{os.sep}"]) == 0
    out = capsys.readouterr().out
    assert "net is a SavedModel folder" in out
    assert "written by  TensorFlow 2." in out
    assert "inputs      picture (any, 12, 12, 3)" in out
    assert "parameters  256" in out
    assert "it will export" in out
    assert main(["doctor", str(folder), "--signature", "other"]) == 2
    assert "--signature embedding or serving_default" in capsys.readouterr().err


def test_options_without_a_model(capsys: Capture) -> None:
    assert main(["doctor", "--unsafe-lambda"]) == 2
    assert capsys.readouterr().err.startswith("error[doctor-options]")
