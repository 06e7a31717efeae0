"""What the doctor says of TensorRT: it asks in a process of its own, which may die."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from xxdeploy.doctor.checkup import _engines


def test_there_is_a_sentence_on_each_kind() -> None:
    said = _engines()
    assert len(said) == 2
    assert "tensorrt" in said[0]
    assert "tensorrt-rtx" in said[1] or "tensorrt_rtx" in said[1]


def test_a_library_that_kills_python_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _engines() == ("Python died with status 9 while asking",)


def test_an_interpreter_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert _engines()[0].startswith("unknown: ")
