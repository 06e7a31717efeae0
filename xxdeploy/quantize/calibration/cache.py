"""Cache calibration results by everything that they depend on.

The file name is a digest of the key, and the file repeats the key: a file that was copied, damaged or edited is
replaced.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

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
        digest = hashlib.sha256("\n".join(map(str, astuple(self))).encode()).hexdigest()
        return folder / f"histograms-{digest[:24]}.bin"


def cached_histograms(folder: Path, key: CalibrationKey, compute: Callable[[], Histograms]) -> Histograms:
    """Return the cached histograms for ``key``, or ``compute`` and cache them.

    A file that is damaged or has another key is ignored with a warning. If the folder cannot be written, there is only
    a warning: the result is good without it.
    """
    path = key.path(folder)
    try:
        cached = Histograms.from_bytes(path.read_bytes())
        if key == CalibrationKey(cached.model_digest, cached.data_digest, cached.images):
            log.info("histograms taken from %s", path)
            return cached
        log.warning("%s holds the histograms of another calibration; calibrating again", path)
    except FileNotFoundError:
        pass
    except (OSError, ConversionError) as error:
        log.warning("%s is not usable (%s); calibrating again", path, error)
    computed = compute()
    try:
        write_atomic(path, computed.to_bytes())
    except OSError as error:
        log.warning("the histograms could not be cached: %s", error)
    return computed
