"""Temporary folders beside a bundle: their names, and what to do with those of killed runs."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

from xxdeploy.runtime.bundle.manifest import MANIFEST

_LIFE = secrets.token_hex(4)
"""Tells the folders of this process from those of an earlier one with its number (process 1 of a container)."""
OLD = "old"
"""Name, inside a temporary folder, of a bundle that was moved aside to make room."""


def temporary_path(target: Path, beside: Path) -> Path:
    """Return a new name in the folder ``beside``, from which a later run can tell whose it is."""
    return beside / f"{prefix(target)}{os.getpid()}-{_LIFE}{secrets.token_hex(4)}"


def prefix(target: Path) -> str:
    """Begin of the names of all temporary folders for ``target``: on another host a process number means nothing."""
    host = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:32]
    return f".xxdeploy-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-{host}-"


def remove_stale(target: Path, beside: Path) -> None:
    """Remove what killed runs left in ``beside``, after giving back a bundle that was moved aside."""
    for folder in beside.glob(f"{prefix(target)}*-*"):
        process, _, life = folder.name.removeprefix(prefix(target)).partition("-")
        if not process.isdigit() or _alive(int(process), life):
            continue
        if (folder / OLD / MANIFEST).exists() and not target.exists():
            (folder / OLD).rename(target)
        shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int, life: str) -> bool:
    """Tell whether the process of that number runs; if it is this one, whether the folder is of this life of it.

    Another thread may be exporting to the same place.
    """
    if process == os.getpid():
        return life.startswith(_LIFE)
    if os.name != "posix":  # there os.kill(process, 0) is no question but Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True
