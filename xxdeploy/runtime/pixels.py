"""Models that take the picture's bytes: what a pixel means in them, and how a scaled batch becomes pixels again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.runtime.preprocess import Preprocess
from xxdeploy.runtime.session import Session

METADATA = "xxdeploy.pixels"
"""Key of the ONNX metadata under which the exporter keeps step and centre."""


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """``x = (pixel - centre) * step`` is what such a model was trained on."""

    step: float
    centre: float

    @classmethod
    def parse(cls, text: str | None) -> PixelGrid | None:
        """Read what the metadata hold; None where that makes no sense."""
        try:
            kept = json.loads(text or "")
            step, centre = float(kept["step"]), float(kept["centre"])
        except (KeyError, TypeError, ValueError):
            return None
        return cls(step, centre) if math.isfinite(centre) and math.isfinite(step) and step > 0 else None

    def pixels(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Turn a scaled float32 batch back into uint8; anything else is returned as it is."""
        if getattr(batch, "dtype", None) != np.float32:
            return batch
        return np.clip(np.rint(batch / np.float32(self.step) + np.float32(self.centre)), 0, 255).astype(np.uint8)


def batch_for(session: Session, preprocess: Preprocess, pictures: NDArray[np.uint8]) -> NDArray[Any]:
    """Return what ``session`` reads of (n, h, w, c) uint8 pictures: these, or scaled ones.

    Engines and fakes without an attribute ``takes_pixels`` read scaled ones.
    """
    return pictures if getattr(session, "takes_pixels", False) else preprocess.normalise(pictures)
