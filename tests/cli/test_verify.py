from __future__ import annotations

import json
from pathlib import Path

import pytest

from xxdeploy.cli import main

Capture = pytest.CaptureFixture[str]


def test_a_good_bundle(bundle: Path, capsys: Capture) -> None:
    assert main(["verify", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "tiny-0: 4 files, all hashes correct" in out
    assert "self-test of portable: 4 images, largest error " in out
    assert "(allowed 1.0e-05)" in out


def test_json(bundle: Path, capsys: Capture) -> None:
    assert main(["verify", str(bundle), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["manifest"]["name"] == "tiny-0"
    assert document["selftest"]["max_abs"] <= document["selftest"]["tolerance"] == 1e-5


def test_a_damaged_bundle(bundle: Path, capsys: Capture) -> None:
    (bundle / "labels.txt").unlink()
    assert main(["verify", str(bundle)]) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[file-missing]: ")


def test_a_cluster_needs_images_to_measure(bundle: Path, capsys: Capture) -> None:
    assert main(["verify", str(bundle), "--cluster", "tcp://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err.startswith("error[cluster-without-eval]: ")
