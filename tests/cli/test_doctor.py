from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from xxdeploy.cli import main
from xxdeploy.doctor.checkup import LIBRARIES

Capture = pytest.CaptureFixture[str]


Install = Callable[[str, str], None]


def test_all_is_well(machine: Install, capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "cpu: works" in out
    assert "warning" not in out
    assert "pip install" not in out


def test_json(machine: Install, capsys: Capture) -> None:
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [library["name"] for library in facts["libraries"]] == list(LIBRARIES)
    assert facts["libraries"][0] == {"name": "numpy", "version": "1.2", "state": "ok", "extra": "edge"}
    assert facts["providers"][0] == "cpu: works"
    assert facts["warnings"] == []


def test_the_exporters_libraries_may_be_missing(machine: Install, capsys: Capture) -> None:
    machine("tf2onnx", "raise ModuleNotFoundError('No module named tf2onnx', name='tf2onnx')")
    assert main(["doctor"]) == 0
    assert "for tf2onnx: pip install 'xxdeploy[export]'" in capsys.readouterr().out


def test_the_runtimes_may_not(machine: Install, capsys: Capture) -> None:
    machine("onnxruntime", "raise ModuleNotFoundError('No module named onnxruntime', name='onnxruntime')")
    assert main(["doctor"]) == 3
    out, err = capsys.readouterr()
    assert "for onnxruntime: pip install 'xxdeploy[edge]'" in out
    assert err.startswith("error[cannot-run]: bundles cannot run here: onnxruntime cannot be imported\n")
