"""``xxdeploy diagnose`` names the option that mends a pipeline, and what the pictures leave open."""

from __future__ import annotations

import json
from pathlib import Path

import picturetasks
import pytest
from picturetasks import SIDE, NearestMean

from xxdeploy.cli import main
from xxdeploy.runtime.image.preprocess import Preprocess

NUMBERS = tuple(map(str, range(11)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("numbered")
    picturetasks.write(root / "val", picturetasks.colors, NUMBERS, 8)
    NearestMean(root / "val", NUMBERS, Preprocess(SIDE, SIDE)).save(root / "model.keras")
    return root


def test_the_order_of_numbered_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(folder / "model.keras"), "--eval", str(folder / "val"), "--preprocess", "tf"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "100.0 % top-1 with --class-order numeric, and 18.2 % as given" in out
    assert "order of classes text numeric" in out
    assert "cannot tell the resampling: no value is clearly worse than bilinear-antialias" in out


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["diagnose", str(folder / "model.keras"), "--eval", str(folder / "val"), "--json"]
    assert main([*arguments, "--preprocess", "tf", "--class-order", "numeric"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["top1"], document["mends"], document["options"]) == (1, False, [])
    assert {aspect["name"] for aspect in document["aspects"]} >= {"scaling", "resample", "classes"}


def test_without_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(folder / "model.keras")]) == 2
    assert "add --eval FOLDER" in capsys.readouterr().err
