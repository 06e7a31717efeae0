"""Keep calibration results, and use one again only for the very same question.

The file name is a digest of all that the result depends on, and the file repeats it: a file that was copied, damaged or
written by hand is not believed, but replaced.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TypeVar

from xxdeploy.artifacts import Ranges
from xxdeploy.errors import ConversionError
from xxdeploy.quantize.histograms import Histograms

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """What a result depends on. ``data_digest`` covers the images and their preprocessing; ``images`` counts them."""

    model_digest: str
    data_digest: str
    method: str
    images: int

    def matches(self, ranges: Ranges) -> bool:
        """Tell whether ``ranges`` answers this key."""
        return self == CalibrationKey(ranges.model_digest, ranges.data_digest, ranges.method, ranges.images)

    def path(self, folder: Path) -> Path:
        """Return the file that holds the answer."""
        digest = hashlib.sha256("\n".join(map(str, astuple(self))).encode()).hexdigest()
        return folder / f"calibration-{digest[:24]}.json"


def cached_calibration(folder: Path, key: CalibrationKey, compute: Callable[[], Ranges]) -> Ranges:
    """Return the kept result for ``key``, or ``compute`` it and keep it.

    A file that is damaged or does not match is ignored with a warning. A folder that cannot be written is only warned
    about too: the result is good without it.
    """
    path = key.path(folder)
    return _kept("calibration", path, load_ranges, key.matches, compute, lambda found: save_ranges(found, path))


def cached_histograms(folder: Path, key: CalibrationKey, compute: Callable[[], Histograms]) -> Histograms:
    """Return the kept histograms for ``key``, whatever its method, or ``compute`` them and keep them.

    Warnings as of ``cached_calibration``.
    """
    key = replace(key, method="histograms")
    path = key.path(folder).with_suffix(".bin")
    return _kept(
        "histograms",
        path,
        lambda path: Histograms.from_bytes(path.read_bytes()),
        lambda found: key == CalibrationKey(found.model_digest, found.data_digest, key.method, found.images),
        compute,
        lambda found: write_whole(path, found.to_bytes()),
    )


def _kept(
    what: str,
    path: Path,
    read: Callable[[Path], T],
    matches: Callable[[T], bool],
    compute: Callable[[], T],
    write: Callable[[T], None],
) -> T:
    try:
        found = read(path)
        if matches(found):
            log.info("%s taken from %s", what, path)
            return found
        log.warning("%s is the %s of something else; calibrating again", path, what)
    except FileNotFoundError:
        pass
    except (OSError, ConversionError) as error:
        log.warning("%s is not usable (%s); calibrating again", path, error)
    found = compute()
    try:
        write(found)
    except OSError as error:
        log.warning("the %s could not be kept: %s", what, error)
    return found


def save_ranges(ranges: Ranges, path: Path) -> None:
    """Write ``ranges`` as JSON, whole or not at all; missing folders are made.

    Raises
    ------
    OSError
    """
    write_whole(path, ranges.to_json().encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; missing folders are made.

    Raises
    ------
    OSError
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_ranges(path: Path) -> Ranges:
    """Read what :func:`save_ranges` wrote.

    Raises
    ------
    ConversionError
        ``damaged-ranges``, ``non-finite-range``.
    OSError
        The file is absent or unreadable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConversionError(
            f"{path} is not a calibration record: {error}",
            hint="delete the file and calibrate again",
            code="damaged-ranges",
        ) from error
    return Ranges.from_json(text)
