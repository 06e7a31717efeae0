from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xxdeploy.cli import main
from xxdeploy.doctor.checkup import check_up, engine_states

Capture = pytest.CaptureFixture[str]
Install = Callable[[str, str], None]


def states(**options: float) -> dict[str, str]:
    return {library.name: library.state for library in check_up(**options).libraries}


@pytest.mark.parametrize(
    ("source", "state"),
    [
        (
            "raise ImportError('libcublas.so.12: cannot open shared object file')",
            "ImportError: libcublas.so.12: cannot",
        ),
        ("import nobody_has_this", "needs nobody_has_this, which is missing"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import os; os.abort()", "Python died with status -6 while importing it"),
        ("import os; os._exit(0)", "Python died with status 0 while importing it"),
        ("print('{\"hello\"'); raise OSError('line one\\nline two')", "OSError: line one"),
    ],
)
def test_a_broken_library_does_not_break_the_doctor(machine: Install, source: str, state: str) -> None:
    machine("onnx", source)
    states_found = states()
    assert states_found.pop("onnx").startswith(state)
    assert set(states_found.values()) == {"ok"}
    (warning,) = check_up().warnings
    assert warning.message.startswith(f"onnx is installed, but its import fails: {state}")
    assert ("apt-file search libcublas.so.12" if "libcublas" in source else "'xxdeploy[export]'") in warning.hint


def test_an_illegal_instruction(machine: Install) -> None:
    machine("onnxruntime", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert states()["onnxruntime"].startswith("illegal instruction")
    (warning,) = check_up().warnings
    assert warning.message.startswith("onnxruntime ")
    assert "does not run on this processor" in warning.message


def test_a_library_for_another_system(machine: Install) -> None:
    machine("onnxruntime", 'raise ImportError("libm.so.6: version `GLIBC_2.29\' not found (required by x.so)")')
    (warning,) = check_up().warnings
    assert "older than GLIBC_2.29" in warning.hint


def test_an_import_that_hangs(machine: Install) -> None:
    machine("onnx", "import time; time.sleep(60)")
    states_found = states(timeout=2.0)
    assert states_found.pop("onnx") == "importing it took more than 2 s"
    assert set(states_found.values()) == {"ok"}


def test_a_python_that_does_not_start(machine: Install, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def run(*arguments: object, **options: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(subprocess, "run", run)
    assert main(["doctor"]) == 3
    assert f"cannot start {sys.executable}: not allowed" in capsys.readouterr().out


class Distribution:
    """As much of ``importlib.metadata.Distribution`` as the doctor looks at."""

    def __init__(self, name: str) -> None:
        self.metadata = {"Name": name}


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def distributions() -> Iterator[Distribution]:
        return map(Distribution, names)

    monkeypatch.setattr(importlib.metadata, "distributions", distributions)


def test_two_onnxruntimes_in_one_folder(machine: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "numpy", "onnxruntime_gpu", "onnxruntime")
    (warning,) = check_up().warnings
    assert warning.message.startswith("onnxruntime and onnxruntime-gpu are both installed")
    assert warning.hint == ("pip uninstall -y onnxruntime onnxruntime-gpu && pip install --no-deps onnxruntime-gpu")


@pytest.mark.parametrize("other", ["onnxruntime-gpu", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnxruntime-extensions"])
def test_one_onnxruntime_and_its_additions(machine: Install, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    installed(monkeypatch, "onnxruntime-gpu", other)
    assert check_up().warnings == ()


def test_the_cache_of_weights(machine: Install, tmp_path: Path) -> None:
    models = tmp_path / "keras" / "models"
    assert check_up().weights == ()
    models.mkdir(parents=True)
    for name in ("b.h5", "a.h5", "imagenet_class_index.json"):
        (models / name).touch()
    assert check_up().weights == ("a.h5", "b.h5")


def test_a_cache_that_cannot_be_written(machine: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    (warning,) = check_up().warnings
    assert warning.message.startswith(f"Keras cannot write its cache in {tmp_path / 'keras'}")


def test_there_is_a_sentence_on_each_kind() -> None:
    said = engine_states()
    assert len(said) == 2
    assert "tensorrt" in said[0]
    assert "tensorrt-rtx" in said[1] or "tensorrt_rtx" in said[1]


def test_a_library_that_kills_python_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert engine_states() == ("Python died with status 9 while asking",)


def test_an_interpreter_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert engine_states()[0].startswith("unknown: ")
