"""Engines by their names, and how their settings are written."""

from __future__ import annotations

import pytest

from xxdeploy.errors import UsageError
from xxdeploy.runtime.engines.select import Settings, engine_version, installed_engines


def test_unknown_engines_and_how_settings_are_said() -> None:
    with pytest.raises(UsageError) as caught:
        Settings("abacus")
    assert caught.value.code == "unknown-engine"
    assert str(Settings("onnxruntime", 2, spinning=False)) == "onnxruntime, 2 threads, no spinning"
    assert str(Settings("openvino", hint="bf16")) == "openvino, bf16"


def test_engines_that_are_here() -> None:
    assert "onnxruntime" in installed_engines()
    assert engine_version("onnxruntime")
    assert engine_version("openvino") is None or "openvino" in installed_engines()
