"""Timing caches of TensorRT: how long each kernel took on this card, so that the next build need not measure again.

TensorRT for RTX has none: it compiles its kernels on the card that runs them.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from xxdeploy.files import read_bounded, write_atomic

log = logging.getLogger(__name__)

LARGEST_FILE = 256 << 20


def timing_path(folder: Path, *, version: str, gpu: str) -> Path:
    """Return where the timings of a version of TensorRT on a card are kept; another of either has another file."""
    key = hashlib.sha256(f"{version}\n{gpu}".encode()).hexdigest()[:32]
    return folder / f"timing-{key}.cache"


def load_timing(path: Path) -> bytes | None:
    """Return what was kept; None where there is nothing, or nothing that can be used. TensorRT checks it itself."""
    try:
        return read_bounded(path, LARGEST_FILE) or None
    except OSError:
        return None


def save_timing(path: Path, data: bytes) -> None:
    """Keep ``data``. A cache that cannot be written costs minutes, no more: it is only said."""
    try:
        write_atomic(path, data)
    except OSError as error:
        log.warning("the timing cache %s cannot be written: %s", path, error)
