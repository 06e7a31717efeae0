"""The npm package in ``web/``: it builds, its tests pass, and Node and a browser pass the conformance suite."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"


def run(*command: str | Path, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=WEB, timeout=timeout, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built() -> Path:
    """``web/dist``, from libraries that were installed by the lock file."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("there is no node or npm")
    installed = WEB / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
        answer = run("npm", "ci", "--prefer-offline")
        if answer.returncode:
            pytest.skip(f"npm ci fails, as without an index of packages: {answer.stderr.strip()[-200:]}")
    answer = run("node", "build.mjs")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return WEB / "dist"


def test_the_tests_of_the_package_pass(built: Path) -> None:
    answer = run("npm", "test")
    assert answer.returncode == 0, answer.stdout[-3000:]


def judged(answer: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of entries, once none has failed."""
    assert answer.returncode == 0, (
        "\n".join(line for line in answer.stdout.splitlines() if line.startswith("not ok"))[:3000]
        or answer.stderr[-3000:]
    )
    return [line for line in answer.stdout.splitlines() if line.startswith("ok")]


def test_node_passes_the_conformance_suite(built: Path, conformance: Path) -> None:
    lines = judged(run("node", "test/conformance.mjs", conformance))
    assert len(lines) > 500
    assert {line.partition("# SKIP ")[2] for line in lines} == {"", "png", "litert"}


def test_a_page_passes_the_conformance_suite(built: Path, conformance: Path) -> None:
    """All entries whose pictures only a decoder reads, and a few of the others: one takes some 80 ms."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("there is no Chromium")
    lines = judged(run("node", "test/conformance_page.mjs", conformance, "25"))
    entries = json.loads((conformance / "expected.json").read_text())["answers"]
    assert sum("png" in entry["needs"] for entry in entries) > 0
    assert len(lines) > 25
    assert {line.partition("# SKIP ")[2] for line in lines} <= {"", "links"}


def test_the_lock_file_names_no_host() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 20
    assert [path for path, package in packages.items() if "resolved" in package] == []
