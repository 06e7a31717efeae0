"""Keep what a calibration has found so far, so that a killed run goes on where it was.

The file lies beside the cache, is named after the question, and repeats it. It is replaced as a whole every so many
seconds, and removed when the answer is there.
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
    """Where the state of a calibration is kept (``folder``) and how often (every ``seconds``)."""

    folder: Path
    seconds: float = 20.0


class Keeper:
    """The checkpoint of one question: these ``tensors`` of this model over these images."""

    def __init__(self, where: Checkpoint, model_digest: str, data_digest: str, tensors: Sequence[str]) -> None:
        self._question = model_digest, data_digest, tuple(tensors)
        name = hashlib.sha256("\n".join((model_digest, data_digest, *tensors)).encode()).hexdigest()
        self.path = where.folder / f"checkpoint-{name[:24]}.bin"
        self._seconds = where.seconds
        self._written = time.monotonic()

    def load(self) -> Histograms | None:
        """Return what was kept. A file that is damaged or belongs to something else is ignored with a warning."""
        try:
            found = Histograms.from_bytes(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ConversionError) as error:
            log.warning("%s is not usable (%s); calibrating from the first image", self.path, error)
            return None
        if (found.model_digest, found.data_digest, tuple(found.tensors)) != self._question:
            log.warning("%s belongs to another calibration; calibrating from the first image", self.path)
            return None
        log.info("calibration goes on after %d images (%s)", found.images, self.path)
        return found

    def keep(self, histograms: Histograms) -> None:
        """Write the file if the last time is long enough ago. A folder that cannot be written is only warned about."""
        if time.monotonic() - self._written < self._seconds:
            return
        try:
            write_atomic(self.path, histograms.to_bytes())
        except OSError as error:
            log.warning("the state of the calibration could not be kept: %s", error)
        self._written = time.monotonic()

    def drop(self) -> None:
        """Remove the file."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s could not be removed: %s", self.path, error)
