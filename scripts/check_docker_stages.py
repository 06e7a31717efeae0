"""Run the install lines of the Dockerfile in fresh virtual environments, and check the result.

This works without Docker. For each stage the script creates an environment, runs the stage's ``RUN pip install``,
imports the stage's modules, and measures the size without pip. The exit status is 1 if a stage fails or is too large.

    python scripts/check_docker_stages.py [STAGE ...]
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Stage:
    """Requirements of a stage: modules to import, modules that must be absent (``without``), the largest size in MB."""

    imports: str
    without: tuple[str, ...] = ()
    megabytes: int | None = None


STAGES = {
    "export": Stage(
        "tensorflow, tf2onnx, onnx, onnxruntime, tensorrt_rtx, xxdeploy.exporter.trt_engine, xxdeploy.cli.app"
    ),
    "edge-cpu": Stage(
        "numpy, PIL, onnxruntime, xxdeploy.runtime", ("tensorflow", "keras", "onnx", "tf2onnx", "jinja2"), 250
    ),
    "edge-gpu": Stage(
        "numpy, PIL, onnxruntime, tensorrt_rtx, xxdeploy.exporter.trt_engine, xxdeploy.cli.app", ("tensorflow",)
    ),
}


def install_lines(stage: str, dockerfile: str) -> list[list[str]]:
    """Return the arguments of ``pip install`` in a stage, or in the stage that its files are copied from."""
    sections = re.split(r"^FROM .* AS (\S+)$", dockerfile, flags=re.MULTILINE)
    texts = dict(zip(sections[1::2], sections[2::2], strict=True))
    text = texts[stage]
    for source in re.findall(r"^COPY --from=(\S+) ", text, re.MULTILINE):
        text = texts[source] + text
    values = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    lines = re.findall(r"^RUN pip install (.*)$", text, re.MULTILINE)
    return [
        [re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], word) for word in shlex.split(line)] for line in lines
    ]


def check(stage: str, folder: Path) -> float:
    """Install ``stage`` into an environment in ``folder``; return its size in MB.

    Raises
    ------
    RuntimeError
        It cannot be installed, a module cannot be imported, a forbidden module is present, or it is too large.
    """
    asked = STAGES[stage]
    lines = install_lines(stage, (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    if not lines:
        raise RuntimeError(f"{stage} has no RUN pip install")
    venv.create(folder)
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    for line in lines:
        words = [word for word in line if word not in ("--prefix", "/device")]
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", "--no-compile", *words], cwd=ROOT)
    _run([python, "-c", f"import {asked.imports}"], cwd=folder)
    for module in asked.without:
        found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is not None)"
        _run([python, "-c", found], cwd=folder)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files if "__pycache__" not in path.parts) / MEGABYTE
    if asked.megabytes is not None and size > asked.megabytes:
        raise RuntimeError(f"{stage} has {size:.0f} MB, more than {asked.megabytes}")
    return size


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def main(names: list[str]) -> int:
    """Check the stages with these names, by default all."""
    failed = 0
    for stage in names or STAGES:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(f"{stage}: {check(stage, Path(folder)):.0f} MB, {time.monotonic() - start:.0f} s", flush=True)
            except RuntimeError as error:
                failed = 1
                print(f"{stage}: {error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
