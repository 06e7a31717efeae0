"""For all tests that build Keras models."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _new_session() -> Iterator[None]:
    """Let each test count Keras' names from zero."""
    yield
    if keras := sys.modules.get("keras"):
        keras.backend.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="module")
def _forget() -> Iterator[None]:
    """Give the memory of a file's models back. After each test it would take a second: the heap is large by then."""
    yield
    gc.collect()
