"""Small image folders and LeNet: an export in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(random.integers(0, 256, (30, 32), dtype=np.uint8)).save(folder / f"{index}.png")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``plain/`` for calibration (20), ``labelled/`` with ten class folders of two images each."""
    root = tmp_path_factory.mktemp("images")
    draw(root / "plain", 20, 0)
    for index in range(10):
        draw(root / "labelled" / f"class-{index}", 2, 100 + index)
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
