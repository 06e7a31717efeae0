"""Finding TensorRT: absent, broken, too old, and what the doctor says of it. With modules that the tests make."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from enginenets import rtx

from xxdeploy.engine import explain, load_library
from xxdeploy.errors import MissingDependencyError, UsageError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of sys.path; what is written there as tensorrt.py is TensorRT."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    return tmp_path / "tensorrt.py"


def refused(target: str) -> MissingDependencyError:
    with pytest.raises(MissingDependencyError) as caught:
        load_library(target)
    return caught.value


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed")
def test_an_absent_library_names_the_pip_line() -> None:
    error = refused("tensorrt")
    assert error.code == "missing-dependency"
    assert error.hint == "pip install 'xxdeploy[tensorrt]'"
    assert explain("tensorrt") == f"{error.message}: {error.hint} (experimental: never run on a card)"


@pytest.mark.parametrize(
    "code",
    [
        "raise OSError('libnvinfer.so.11: cannot open shared object file')",
        "raise ImportError('libnvinfer.so.11 is missing')",
        "raise RuntimeError('no')",
        "__version__ = '11.0'",
    ],
)
def test_a_broken_library_is_told_from_an_absent_one(fake: Path, code: str) -> None:
    fake.write_text(code)
    error = refused("tensorrt")
    assert error.code == "broken-dependency"
    assert "tensorrt" in error.message
    assert "fresh environment" in error.hint or "install the system's package that has libnvinfer" in error.hint


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "dev"])
def test_a_version_without_strong_types_is_refused(fake: Path, version: str) -> None:
    fake.write_text(f"__version__ = {version!r}\nBuilder = object")
    error = refused("tensorrt")
    assert error.code == "tensorrt-version"
    assert version in error.message


@pytest.mark.parametrize("version", ["10.0.1", "11.4.0.5"])
def test_versions_with_strong_types(fake: Path, version: str) -> None:
    fake.write_text(f"__version__ = {version!r}\nBuilder = object")
    library = load_library("tensorrt")
    assert (library.version, library.is_rtx) == (version, False)


def test_an_unknown_target() -> None:
    with pytest.raises(UsageError) as caught:
        load_library("openvino")
    assert caught.value.code == "unknown-target"
    assert "openvino" in explain("openvino")


@rtx
def test_the_doctor_says_what_rtx_can_do_here() -> None:
    said = explain("tensorrt-rtx")
    assert said.startswith(f"tensorrt-rtx {load_library('tensorrt-rtx').version} builds")


def test_only_engine_and_the_runtimes_session_speak_of_the_modules() -> None:
    """import-linter sees no import by name, so this looks for the names themselves."""
    runtime = ROOT / "xxdeploy" / "runtime" / "engines"
    homes = {runtime / f"{name}.py" for name in ("trt", "select", "providers")}
    homes |= set((ROOT / "xxdeploy" / "engine").glob("*.py"))
    for path in (ROOT / "xxdeploy").rglob("*.py"):
        if path not in homes:
            text = path.read_text(encoding="utf-8")
            assert "tensorrt_rtx" not in text, path
            assert "import tensorrt" not in text, path
