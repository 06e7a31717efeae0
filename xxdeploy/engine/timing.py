"""Timing caches of TensorRT: how long each kernel took on this card, so that the next build need not measure again.

TensorRT for RTX has none: it compiles its kernels on the card that runs them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
from pathlib import Path

log = logging.getLogger(__name__)

LARGEST_FILE = 256 << 20


def timing_path(folder: Path, *, version: str, gpu: str) -> Path:
    """Return where the timings of a version of TensorRT on a card are kept; another of either has another file."""
    key = hashlib.sha256(f"{version}\n{gpu}".encode()).hexdigest()[:32]
    return folder / f"timing-{key}.cache"


def load_timing(path: Path) -> bytes | None:
    """Return what was kept; None where there is nothing, or nothing that can be used. TensorRT checks it itself."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError:
        return None
    return data if 0 < len(data) <= LARGEST_FILE else None


def save_timing(path: Path, data: bytes) -> None:
    """Keep ``data``. A cache that cannot be written costs minutes, no more: it is only said."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        log.warning("the timing cache %s cannot be written: %s", path, error)
        with contextlib.suppress(OSError):
            temporary.unlink()
