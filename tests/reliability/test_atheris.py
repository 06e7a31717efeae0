"""scripts/fuzz_atheris.py runs, counts what it ran, and tells of a fault."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed (it has wheels for x86-64 Linux)"
)


def fuzz(scripts: Path, *words: str) -> tuple[int, list[str]]:
    command = [sys.executable, str(scripts / "fuzz_atheris.py"), "--target", "manifest", "--seconds", "60", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    return done.returncode, (done.stdout or done.stderr).splitlines()


def test_a_few_hundred_guided_inputs() -> None:
    status, said = fuzz(ROOT / "scripts", "--runs", "300")
    assert (status, said[-1]) == (0, "300 inputs, 0 faults")
    name, inputs, kept, edges, _ = said[2].strip("| ").split(" | ")
    assert (name, inputs) == ("manifest", "300")
    assert int(kept) > 0
    first, last = map(int, edges.split(", "))
    assert 50 < first <= last


def test_a_fault_is_told_and_kept(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("fuzz_atheris.py", "fuzz_inputs.py"):
        shutil.copy(ROOT / "scripts" / name, scripts)
    readers = (ROOT / "scripts" / "fuzz_readers.py").read_text()
    right, wrong = "Manifest.from_json(data).to_json()", "json.loads(data)"  # which raises an error of its own
    assert right in readers
    readers = readers.replace(right, wrong).replace("Path(__file__).resolve().parent.parent", f"Path({str(ROOT)!r})")
    (scripts / "fuzz_readers.py").write_text(readers)
    status, said = fuzz(scripts, "--keep", str(tmp_path / "kept"))
    assert status == 1
    assert said[-2].endswith("1 faults")
    assert said[-1].startswith("  manifest: status ")
    assert "JSONDecodeError" in said[-1]
    assert [path.name.partition("-crash-")[0] for path in (tmp_path / "kept").iterdir()] == ["manifest"]
