"""The architecture, as far as a machine can hold it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "xxdeploy"
NOT_ON_A_DEVICE = ("tensorflow", "keras", "tf2onnx", "onnx", "cyclopts", "rich", "h5py")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def modules_of(folder: Path) -> list[str]:
    names = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def imported_by(*modules: str) -> set[str]:
    """Top-level packages that are in memory after the imports, in a fresh Python."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_arrows_point_down() -> None:
    done = python("-c", "from importlinter.cli import lint_imports_command as command; command()")
    assert done.returncode == 0, done.stdout


def test_the_runtime_as_a_whole_needs_numpy_pillow_and_an_engine() -> None:
    loaded = imported_by(*modules_of(PACKAGE / "runtime"))
    assert {"numpy", "PIL"} <= loaded
    assert not loaded.intersection(NOT_ON_A_DEVICE)


def test_importtime_of_the_runtime_shows_no_exporter() -> None:
    done = python("-X", "importtime", "-c", "import xxdeploy.runtime")
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "xxdeploy.runtime" in names
    assert [name for name in names if name.partition(".")[0] in NOT_ON_A_DEVICE] == []


@pytest.mark.parametrize("module", ["xxdeploy.models.catalog", "xxdeploy.datasets", "xxdeploy.results", "xxdeploy"])
def test_light_modules_load_no_framework(module: str) -> None:
    assert not imported_by(module).intersection(("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime"))


def test_files_stay_short() -> None:
    files = [path for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py")]
    assert files
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
