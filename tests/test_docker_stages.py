"""The Dockerfile's stages: their install lines are found, and the smallest is really installed and weighed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def script() -> Any:
    """Import the script, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("check_docker_stages", ROOT / "scripts" / "check_docker_stages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


SCRIPT = script()
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_each_stage_installs_its_extras_and_nothing_else() -> None:
    words = {
        stage: [word for line in SCRIPT.install_lines(stage, DOCKERFILE) for word in line] for stage in SCRIPT.STAGES
    }
    wanted = {stage: [word for word in found if not word.startswith("-")] for stage, found in words.items()}
    assert wanted == {
        "export": [".[export,tensorrt-rtx]"],
        "edge-cpu": ["/device", ".[edge]"],
        "edge-gpu": [".[gpu,tensorrt-rtx]"],
    }


def test_an_argument_of_the_build_takes_the_place_of_its_name() -> None:
    text = (
        'FROM a AS one\nARG EXTRAS=x,y\nRUN pip install --quiet ".[${EXTRAS}]"\nFROM b AS two\nCOPY --from=one /a /b\n'
    )
    assert SCRIPT.install_lines("two", text) == [["--quiet", ".[x,y]"]]


def has_index() -> bool:
    """Whether pip finds the packages; without an index there is nothing to install."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "pillow",
    ]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.slow
def test_the_small_device_weighs_less_than_250_mb(tmp_path: Path) -> None:
    if not has_index():
        pytest.skip("no package index can be reached")
    assert 50 < SCRIPT.check("edge-cpu", tmp_path / "device") < 250
