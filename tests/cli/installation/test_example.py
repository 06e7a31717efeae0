from __future__ import annotations

import json
from pathlib import Path

import pytest

from xxdeploy.cli import main

Capture = pytest.CaptureFixture[str]


def test_the_list_and_a_copy(capsys: Capture, tmp_path: Path) -> None:
    assert main(["example"]) == 0
    assert "http_service" in capsys.readouterr().out
    assert main(["example", "http_service", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'http_service.py'}; the first lines say how it is used\n"
    assert main(["example", "http_service", str(tmp_path)]) == 2
    assert "error[example-exists]" in capsys.readouterr().err


def test_json(capsys: Capture, tmp_path: Path) -> None:
    assert main(["example", "--json"]) == 0
    names = [example["name"] for example in json.loads(capsys.readouterr().out)]
    assert "camera_loop" in names
    assert main(["example", "camera_loop", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "camera_loop", "files": [str(tmp_path / "camera_loop.py")]}
