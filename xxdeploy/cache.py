"""The cache folder as a whole: what it holds, how large it is, and its bound. Standard library only.

Each part is written by the step that needs it (:func:`xxdeploy.files.cache_folder`), and everything in it can be made
again. Only files with the names that these steps give are counted and removed: ``XXDEPLOY_CACHE`` may name a folder
with other files.
"""

from __future__ import annotations

import logging
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.files import cache_folder

LIMIT_VARIABLE = "XXDEPLOY_CACHE_MB"
"""Environment variable with the largest size of the cache, in MB (10^6 bytes)."""
DEFAULT_LIMIT_MB = 2000.0
MOST_MB = 1e12
"""Largest size that may be named, in MB: more than any disk has, and far below what overflows."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One folder of the cache: its name, its content in a few words, and the names of its files as a pattern."""

    name: str
    about: str
    files: str


PARTS = (
    Part("calibration", "histograms of calibration images", r"(calibration|histograms|checkpoint)-[0-9a-f]{24}\.bin"),
    Part("engines", "times of TensorRT's kernels", r"timing-[0-9a-f]{32}\.cache"),
    Part("openvino", "models that OpenVINO compiled", r"[0-9]+\.blob"),
    Part("tuned", "choices of xxdeploy tune", r"[0-9a-f]{32}\.json"),
)
_TEMPORARY = r"\.(?:{})-[0-9a-f]{{8}}"
"""The name of a file that a killed process was writing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the cache: its part, its size in bytes, and when it was last read or written, in seconds."""

    part: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Removed:
    """Files that were removed, and their bytes; ``kept`` counts those that could not be removed."""

    files: int
    size: int
    kept: int = 0


def cache_root() -> Path | None:
    """Return the folder of all parts, which need not exist; None where there is no home folder."""
    folder = cache_folder(PARTS[0].name)
    return None if folder is None else folder.parent


def keras_downloads() -> tuple[Path, int] | None:
    """Return the folder of weights that Keras downloaded, and their bytes; None if it has none.

    It belongs to Keras and to all programs that use it, so nothing here removes it.
    """
    home = os.environ.get("KERAS_HOME")
    try:
        folder = Path(home or Path.home() / ".keras") / "models"
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    return (folder, size) if size else None


def entries(part: str | None = None) -> tuple[Entry, ...]:
    """Return the files of the cache, or of one part, the least recently used first. ``UsageError`` ``cache-part``."""
    if part is not None and part not in (known.name for known in PARTS):
        names = ", ".join(known.name for known in PARTS)
        raise UsageError(f"the cache has no part {part!r}", hint=f"it has {names}", code="cache-part")
    found = (entry for known in PARTS if part in (None, known.name) for entry in _files(known))
    return tuple(sorted(found, key=lambda entry: (entry.used, entry.path)))


def limit_bytes() -> int:
    """Return the largest size of the cache. ``UsageError`` ``cache-limit``: ``XXDEPLOY_CACHE_MB`` is not one."""
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_MB)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit <= MOST_MB:
        raise UsageError(
            f"{LIMIT_VARIABLE} must be a number of MB, 0 to {MOST_MB:.0e}, not {text[:40]!r}",
            hint=f"set it to {DEFAULT_LIMIT_MB:.0f}, or unset it",
            code="cache-limit",
        )
    return int(limit * 1e6)


def clear(part: str | None = None, *, down_to: int = 0) -> Removed:
    """Remove the least recently used files until those of the cache, or of ``part``, take at most ``down_to`` bytes.

    A process that uses a removed file makes it again. ``UsageError`` ``cache-part``.
    """
    held = entries(part)
    return _remove(held, sum(entry.size for entry in held) - down_to if down_to else math.inf)


def trim(keep: Path) -> None:
    """Keep the cache within its limit after ``keep`` was written, which stays. Raises nothing."""
    try:
        limit = limit_bytes()
    except UsageError as error:
        _log.warning("%s; the limit is %.0f MB", error.message, DEFAULT_LIMIT_MB)
        limit = int(DEFAULT_LIMIT_MB * 1e6)
    held = [entry for entry in entries() if entry.path != keep]
    _remove(held, sum(entry.size for entry in held) + _size(keep) - limit)


def _remove(held: Sequence[Entry], excess: float) -> Removed:
    """Remove files in this order until they are ``excess`` bytes or more."""
    files = size = kept = 0
    for entry in held:
        if size >= excess:
            break
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            _log.debug("%s cannot be removed: %s", entry.path, error)
            kept += 1
        else:
            files, size = files + 1, size + entry.size
    return Removed(files, size, kept)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _files(part: Part) -> Iterator[Entry]:
    """Yield the regular files of a part that have its names; a folder that cannot be read has none."""
    folder = cache_folder(part.name)
    if folder is None:
        return
    pattern = re.compile(rf"(?:{part.files})|{_TEMPORARY.format(part.files)}")
    try:
        paths = [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return
    for path in paths:
        try:
            status = path.lstat()
        except OSError:  # another process removed it
            continue
        if stat.S_ISREG(status.st_mode):
            yield Entry(part.name, path, status.st_size, max(status.st_mtime, status.st_atime))
