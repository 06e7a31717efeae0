"""Save the state of a calibration, so that a run that was killed continues.

The file is in the cache folder; its name is a digest of model, images and tensors, and the file repeats them. It is
replaced as a whole every few seconds, and removed at the end.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import ConversionError
from xxdeploy.files import write_atomic
from xxdeploy.quantize.calibration.histograms import Histograms

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The ``folder`` for the state of a calibration, and the ``seconds`` between two saves."""

    folder: Path
    seconds: float = 20.0


class Keeper:
    """The checkpoint of one calibration: these ``tensors`` of this model over these images."""

    def __init__(self, where: Checkpoint, model_digest: str, data_digest: str, tensors: Sequence[str]) -> None:
        self._identity = model_digest, data_digest, tuple(tensors)
        name = hashlib.sha256("\n".join((model_digest, data_digest, *tensors)).encode()).hexdigest()
        self.path = where.folder / f"checkpoint-{name[:24]}.bin"
        self._seconds = where.seconds
        self._written = time.monotonic()

    def load(self) -> Histograms | None:
        """Return the saved state, or None. A damaged file, or one of another calibration, is ignored with a warning."""
        try:
            saved = Histograms.from_bytes(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ConversionError) as error:
            log.warning("%s is not usable (%s); calibrating from the first image", self.path, error)
            return None
        if (saved.model_digest, saved.data_digest, tuple(saved.tensors)) != self._identity:
            log.warning("%s belongs to another calibration; calibrating from the first image", self.path)
            return None
        log.info("calibration continues after %d images (%s)", saved.images, self.path)
        return saved

    def keep(self, histograms: Histograms) -> None:
        """Write the file if the last save is ``seconds`` ago. If the folder cannot be written, there is a warning."""
        if time.monotonic() - self._written < self._seconds:
            return
        try:
            write_atomic(self.path, histograms.to_bytes())
        except OSError as error:
            log.warning("the state of the calibration could not be saved: %s", error)
        self._written = time.monotonic()

    def drop(self) -> None:
        """Remove the file."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s could not be removed: %s", self.path, error)
