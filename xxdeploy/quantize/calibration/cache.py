"""Files of histograms in the cache folder: the results of calibrations, and the state of one that is running.

A file's name is a digest of everything that its contents depend on, and the file repeats that: a file that was copied,
damaged or edited is replaced.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from xxdeploy.cache import trim
from xxdeploy.errors import ConversionError
from xxdeploy.files import write_atomic
from xxdeploy.quantize.calibration.histograms import Histograms

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """Everything that histograms depend on.

    ``data_digest`` covers the images and their preprocessing; ``images`` is their number.
    """

    model_digest: str
    data_digest: str
    images: int

    def path(self, folder: Path) -> Path:
        """Return the file in ``folder`` for this key."""
        return _path(folder, "histograms", map(str, astuple(self)))


def cached_histograms(folder: Path, key: CalibrationKey, compute: Callable[[], Histograms]) -> Histograms:
    """Return the cached histograms for ``key``, or ``compute`` and cache them.

    A file that is damaged or has another key is ignored with a warning. If the folder cannot be written, there is only
    a warning, and the result is the same.
    """
    path = key.path(folder)

    def matches(cached: Histograms) -> bool:
        return key == CalibrationKey(cached.model_digest, cached.data_digest, cached.images)

    if cached := _read(path, matches, "calibrating again"):
        log.info("histograms taken from %s", path)
        return cached
    computed = compute()
    _write(path, computed, "the histograms could not be cached")
    return computed


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The ``folder`` for the state of a calibration, and the ``seconds`` between two saves."""

    folder: Path
    seconds: float = 20.0


class Keeper:
    """The checkpoint of one calibration, these ``tensors`` of this model over these images: a killed run continues."""

    def __init__(self, where: Checkpoint, model_digest: str, data_digest: str, tensors: Sequence[str]) -> None:
        self._identity = model_digest, data_digest, tuple(tensors)
        self.path = _path(where.folder, "checkpoint", (model_digest, data_digest, *tensors))
        self._seconds = where.seconds
        self._written = time.monotonic()

    def load(self) -> Histograms | None:
        """Return the saved state, or None. A damaged file, or one of another calibration, is ignored with a warning."""

        def matches(saved: Histograms) -> bool:
            return (saved.model_digest, saved.data_digest, tuple(saved.tensors)) == self._identity

        if saved := _read(self.path, matches, "calibrating from the first image"):
            log.info("calibration continues after %d images (%s)", saved.images, self.path)
        return saved

    def keep(self, histograms: Histograms) -> None:
        """Write the file if the last save is ``seconds`` ago. If the folder cannot be written, there is a warning."""
        if time.monotonic() - self._written >= self._seconds:
            _write(self.path, histograms, "the state of the calibration could not be saved")
            self._written = time.monotonic()

    def drop(self) -> None:
        """Remove the file."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s could not be removed: %s", self.path, error)


def _path(folder: Path, kind: str, identity: Iterable[str]) -> Path:
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()
    return folder / f"{kind}-{digest[:24]}.bin"


def _read(path: Path, matches: Callable[[Histograms], bool], instead: str) -> Histograms | None:
    """Return the histograms in a file; None, with a warning, if it is damaged or does not match."""
    try:
        histograms = Histograms.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ConversionError) as error:
        log.warning("%s is not usable (%s); %s", path, error, instead)
        return None
    if matches(histograms):
        return histograms
    log.warning("%s belongs to another calibration; %s", path, instead)
    return None


def _write(path: Path, histograms: Histograms, failure: str) -> None:
    try:
        write_atomic(path, histograms.to_bytes())
        trim(path)
    except OSError as error:
        log.warning("%s: %s", failure, error)
