"""SHA-256, at the least cost for what is hashed.

``hashlib`` brings OpenSSL: 3.7 MB of memory and 3 ms of a cold start, and then 1.8 GB/s where the processor has
instructions for it. Python's own code has 0.3 GB/s and is there already. So small bundles are hashed by that.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Protocol

SMALL = 8_000_000
"""Bytes of all files from which OpenSSL is worth loading: 25 ms of Python's own code."""
_OWN = ("_sha2", "_sha256")
"""Modules of Python 3.12 and later, and of 3.11."""


class Hash(Protocol):
    """What is used of a hash object."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return 64 lower-case digits."""
        ...


def sha256(data: bytes = b"", *, size: int | None = None) -> Hash:
    """Begin a hash with ``data``; ``size`` is how many bytes there will be in all, if they are more."""
    if (len(data) if size is None else size) <= SMALL and "_hashlib" not in sys.modules:
        own = _own()
        if own is not None:
            return own(data)
    import hashlib

    return hashlib.sha256(data)


def _own() -> Callable[[bytes], Hash] | None:
    """Return Python's own SHA-256; None in a build without it."""
    for name in _OWN:
        try:
            found: Callable[[bytes], Hash] = importlib.import_module(name).sha256
        except (ImportError, AttributeError):
            continue
        return found
    return None
