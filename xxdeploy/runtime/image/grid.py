"""The value of a pixel in a model that takes the picture's bytes, and how a scaled batch becomes bytes again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METADATA = "xxdeploy.pixels"
"""Key of the ONNX metadata under which the exporter keeps the grid."""
MIDDLE = 128
"""The pixel that is zero in a model of a ``ChannelGrid``."""
_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """``x = (pixel - center) * step`` are the values that such a model was trained on."""

    step: float
    center: float

    def pixels(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Turn a scaled float32 batch back into uint8; anything else is returned as it is."""
        if getattr(batch, "dtype", None) != _FLOAT32:
            return batch
        return _bytes(batch / np.float32(self.step) + np.float32(self.center))


@dataclass(frozen=True, slots=True)
class ChannelGrid:
    """``x = (pixel - mean) / deviation`` are the values that such a model was trained on, channel by channel.

    ``flip``: the channels of ``x`` are the picture's from last to first (BGR); the means and deviations are theirs.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    flip: bool = False

    def pixels(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Turn a scaled float32 batch (n, h, w, c) back into uint8; anything else is returned as it is."""
        if getattr(batch, "dtype", None) != _FLOAT32 or batch.shape[-1:] != (len(self.mean),):
            return batch
        picture = _bytes(batch * np.array(self.deviation, np.float32) + np.array(self.mean, np.float32))
        return np.ascontiguousarray(picture[..., ::-1]) if self.flip else picture

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest value that a channel can have."""
        ends = [(end - m) / d for m, d in zip(self.mean, self.deviation, strict=True) for end in (0, 255)]
        return min(ends), max(ends)

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain values."""
        return {"mean": list(self.mean), "deviation": list(self.deviation), "flip": self.flip}


Grid = PixelGrid | ChannelGrid


def grid_from(text: str | None) -> Grid | None:
    """Read a model's metadata; None if they are wrong."""
    try:
        kept = json.loads(text or "")
        if "mean" not in kept:
            step, center = float(kept["step"]), float(kept["centre"])
            return PixelGrid(step, center) if math.isfinite(center) and math.isfinite(step) and step > 0 else None
        mean, deviation = (tuple(map(float, kept[key])) for key in ("mean", "deviation"))
        flip = kept["flip"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    right = len(mean) == len(deviation) and all(map(math.isfinite, (*mean, *deviation))) and type(flip) is bool
    return ChannelGrid(mean, deviation, flip) if right and mean and min(deviation) > 0 else None


def _bytes(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
