"""Each guide in ``docs/how-to`` works from top to bottom, on a bundle and pictures that a user would have."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle
from docs_blocks import GUIDES, ROOT, Block, blocks, name
from PIL import Image

from xxdeploy.cli import main

SHELL = ("cp", "ln", "ls", "mkdir", "mv", "tar")
"""Commands of a guide that the test runs as they are."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two exported bundles, a photo, and labeled pictures."""
    for seed, bundle in enumerate(("flowers-int8", "flowers-fp32")):
        tiny_bundle.make(tmp_path / "exports" / bundle, seed=seed)
    Image.new("RGB", (20, 16), (200, 30, 90)).save(tmp_path / "photo.jpg")
    for label in tiny_bundle.LABELS:
        (tmp_path / "val" / label).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "val" / label / "0.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: Block, folder: Path) -> None:
    """Run one block as its reader does, with a budget of a second for what measures."""
    if block.kind == "python":
        (folder / "block.py").write_text(block.text, encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "block.py"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"--budget \d+", "--budget 1", line), comments=True)
        if words and words[0] == "xxdeploy":
            assert main(words[1:]) == 0, line
        elif words:
            assert words[0] in SHELL, f"say above the block why {words[0]} is not run, or which test runs it"
            subprocess.run(words, cwd=folder, check=True, timeout=60)


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_a_guide_works_from_top_to_bottom(page: Path, folder: Path) -> None:
    for block in blocks(page, "bash", "python"):
        if block.runs:
            run(block, folder)


def test_guides_are_found() -> None:
    assert "update-in-the-field" in {page.stem for page in GUIDES}
