"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

# Keras reads KERAS_HOME when it is imported; TensorFlow reads its log level then.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if (SHARED / "keras-home").is_dir():
    os.environ.setdefault("KERAS_HOME", str(SHARED / "keras-home"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights and images; skips where it is absent (CI has it)."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data (real weights and ImageNet images, not for release) is absent")
    return SHARED
