"""Keep calibration results, and use one again only for the very same question.

The file name is a digest of all that the result depends on, and the file repeats it: a file that was copied, damaged or
written by hand is not believed, but replaced.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from xxdeploy.errors import ConversionError
from xxdeploy.files import write_atomic
from xxdeploy.quantize.calibration.histograms import Histograms

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """What a result depends on. ``data_digest`` covers the images and their preprocessing; ``images`` counts them."""

    model_digest: str
    data_digest: str
    method: str
    images: int

    def path(self, folder: Path) -> Path:
        """Return the file that holds the answer."""
        digest = hashlib.sha256("\n".join(map(str, astuple(self))).encode()).hexdigest()
        return folder / f"calibration-{digest[:24]}.json"


def cached_histograms(folder: Path, key: CalibrationKey, compute: Callable[[], Histograms]) -> Histograms:
    """Return the kept histograms for ``key``, whatever its method, or ``compute`` them and keep them.

    A file that is damaged or does not match is ignored with a warning. A folder that cannot be written is only warned
    about too: the result is good without it.
    """
    key = replace(key, method="histograms")
    path = key.path(folder).with_suffix(".bin")
    try:
        found = Histograms.from_bytes(path.read_bytes())
        if key == CalibrationKey(found.model_digest, found.data_digest, key.method, found.images):
            log.info("histograms taken from %s", path)
            return found
        log.warning("%s is the histograms of something else; calibrating again", path)
    except FileNotFoundError:
        pass
    except (OSError, ConversionError) as error:
        log.warning("%s is not usable (%s); calibrating again", path, error)
    found = compute()
    try:
        write_atomic(path, found.to_bytes())
    except OSError as error:
        log.warning("the histograms could not be kept: %s", error)
    return found
