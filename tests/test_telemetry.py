"""Neither xxdeploy nor ONNX Runtime under it sends anything: the library's telemetry is off before it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tiny_bundle

ROOT = Path(__file__).resolve().parent.parent
SWITCH = "ORT_DISABLE_TELEMETRY"


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose environment lacks the switch unless ``variables`` has it."""
    kept = {name: value for name, value in os.environ.items() if name != SWITCH}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def test_the_switch_is_set_before_the_library_is_imported() -> None:
    code = f"import os, sys, xxdeploy; print('onnxruntime' in sys.modules, os.environ[{SWITCH!r}])"
    assert python(code).stdout.split() == ["False", "1"]


def test_the_value_of_the_user_stays() -> None:
    assert python(f"import os, xxdeploy; print(os.environ[{SWITCH!r}])", **{SWITCH: "0"}).stdout.strip() == "0"


def test_the_library_makes_no_identifier_of_the_device(tmp_path: Path) -> None:
    """With its telemetry on, ONNX Runtime keeps an identifier and a store of events in the home folder."""
    bundle, home = tiny_bundle.make(tmp_path / "bundle"), tmp_path / "home"
    home.mkdir()
    code = f"""
import numpy as np
from xxdeploy.runtime import load
with load({str(bundle)!r}, selftest=True) as runtime:
    print(runtime.predict(np.zeros((8, 8, 3), np.uint8), top=1)[0].label)
"""
    folders = {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home), "XDG_CACHE_HOME": ""}
    assert python(code, **folders).stdout.strip() in tiny_bundle.LABELS
    assert list(home.rglob("*")) == []
