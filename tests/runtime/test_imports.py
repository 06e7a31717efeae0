"""What the device needs: every module of the runtime, imported in a process of its own."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle

import xxdeploy.runtime

WORKSTATION = {"tensorflow", "keras", "tf2onnx", "onnx", "cyclopts", "rich", "h5py", "pytest"}
LATE = {"cryptography"}  # only where a key is given


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_no_module_of_the_runtime_imports_the_workstation() -> None:
    names = [info.name for info in pkgutil.walk_packages(xxdeploy.runtime.__path__, "xxdeploy.runtime.")]
    assert "xxdeploy.runtime.bench" in names
    loaded = modules_after("\n".join(f"import {name}" for name in names) + "\nimport onnxruntime")
    assert not loaded & (WORKSTATION | LATE)
    ours = {name for name in loaded if name.startswith("xxdeploy.") and not name.startswith("xxdeploy.runtime")}
    ours.discard("xxdeploy._version")  # a build writes it; a checkout that was not built has none
    assert ours == {f"xxdeploy.{name}" for name in ("cores", "cpu", "errors", "files", "optional")}


def test_importing_the_runtime_does_not_start_onnxruntime() -> None:
    loaded = modules_after("import xxdeploy.runtime")
    assert {"numpy", "PIL"} <= loaded
    assert "onnxruntime" not in loaded


def test_the_public_face() -> None:
    assert sorted(xxdeploy.runtime.__all__) == ["Prediction", "Preprocess", "Runtime", "SelfTest", "load"]


def test_a_cold_start_loads_neither_openssl_nor_what_only_writers_need(tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    code = (
        "import sys\nfrom xxdeploy.runtime import load\nimport numpy as np\n"
        "load(sys.argv[1]).predict(np.zeros((8, 8, 3), np.uint8))\n"
        "print({'_hashlib', 'tempfile', 'subprocess', 'openvino', 'importlib.metadata', 'cryptography'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("limit", "loaded"), [("sum", "False"), ("max", "True")])
def test_what_counts_is_the_whole_bundle(limit: str, loaded: str, tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    code = (
        "import sys\nfrom pathlib import Path\nfrom xxdeploy.runtime import load\n"
        "from xxdeploy import files\n"
        "sizes = [path.stat().st_size for path in Path(sys.argv[1]).rglob('*') if path.is_file()]\n"
        f"files.HASHED_BY_PYTHON = {limit}(sizes)\n"
        "load(sys.argv[1])\nprint('_hashlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
