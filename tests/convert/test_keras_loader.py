"""TensorFlow's import: quiet, restored, and refused in settings that give other numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xxdeploy.convert.keras_loader import quiet_stderr


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_the_import_says_nothing_and_stderr_works_afterwards() -> None:
    done = python(
        "import os, sys; from xxdeploy.convert.keras_loader import load_keras; load_keras();"
        "os.write(2, b'descriptor '); print('stream', file=sys.stderr)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "descriptor stream\n")


@pytest.mark.parametrize(
    "setting", ['{"image_data_format": "channels_first"}', '{"floatx": "float16"}'], ids=["layout", "type"]
)
def test_other_settings_are_refused(setting: str, tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(setting, encoding="utf-8")
    code = (
        "from xxdeploy.convert.keras_loader import load_keras\n"
        "from xxdeploy.errors import MissingDependencyError\n"
        "try: load_keras()\n"
        "except MissingDependencyError as error: print(error.code)"
    )
    assert python(code, KERAS_HOME=str(tmp_path)).stdout == "keras-settings\n"


def test_stderr_is_restored_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with quiet_stderr():
            os.write(2, b"hidden")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"
