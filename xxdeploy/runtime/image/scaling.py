"""Scaling of pixels that is none of the four of keras.applications: ``(x * scale - mean) / std`` for each channel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError

ORDERS = ("rgb", "bgr")
_LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class Scaling:
    """The scaling that a network was trained with.

    Parameters
    ----------
    scale
        Factor of the pixels (0..255) before anything else, such as 1 / 255.
    mean, std
        One value a channel, in the order of the channels after ``order``; ``std`` is positive.
    order
        ``rgb``, or ``bgr`` (which needs three channels).

    Raises
    ------
    UsageError
        ``preprocess-invalid``: a value that is not finite, out of range or of the wrong type, or lists of different
        lengths.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str = "rgb"

    def __post_init__(self) -> None:
        if type(self.mean) is not tuple or type(self.std) is not tuple:
            raise invalid("mean and std must be lists of numbers")
        for value in (self.scale, *self.mean, *self.std):
            if type(value) is not float or not math.isfinite(value) or abs(value) > _LARGEST:
                raise invalid(f"scale, mean and std must be numbers up to {_LARGEST:.0f}, not {value!r}")
        if min((self.scale, *self.std)) < 1 / _LARGEST:
            raise invalid(f"scale and std must be positive, at least {1 / _LARGEST:g}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise invalid(f"mean and std must have one value a channel, not {len(self.mean)} and {len(self.std)}")
        if self.order not in ORDERS or (self.order == "bgr" and len(self.mean) != 3):
            raise invalid(f"order must be rgb, or bgr with three channels, not {self.order!r}")

    def apply(self, images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale (n, height, width, channels) of 0..255: float32, three operations in the order of the formula."""
        if self.order == "bgr":
            images = images[..., ::-1]
        x = images.astype(np.float32, order="C")
        x *= np.float32(self.scale)
        x -= np.array(self.mean, np.float32)
        x /= np.array(self.std, np.float32)
        return x

    def to_json(self) -> dict[str, float | str | list[float]]:
        """Return the four fields as plain values."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std), "order": self.order}

    @classmethod
    def from_json(cls, value: object) -> Scaling:
        """Read what ``to_json`` wrote. ``UsageError`` ``preprocess-invalid`` on unknown or missing keys."""
        if not isinstance(value, dict) or set(value) != {"scale", "mean", "std", "order"}:
            raise invalid("scaling must be an object with exactly the keys mean, order, scale, std")
        if not isinstance(value["mean"], list) or not isinstance(value["std"], list):
            raise invalid("mean and std must be lists of numbers")
        mean, std = (tuple(map(float_from, value[key])) for key in ("mean", "std"))
        return cls(float_from(value["scale"]), mean, std, value["order"])  # type: ignore[arg-type]


def float_from(value: object) -> object:
    """Return a JSON number that a float holds exactly as float: ``0`` is written without a point; else the value."""
    return float(value) if type(value) is int and abs(value) < 1 << 53 else value


def invalid(message: str) -> UsageError:
    """Return the error for preprocessing that is wrong."""
    return UsageError(
        f"preprocessing: {message}",
        hint="see docs/reference/bundle-format.md for the keys and their values",
        code="preprocess-invalid",
    )


_TORCH = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE_RGB = (123.68, 116.779, 103.939)
NAMED = ("0..1", "0..1-bgr", "tf-bgr", "torch-bgr", "none-bgr", "caffe-rgb")
"""Scalings with a name that are none of the four of keras.applications. Those of one channel: ``0..1``."""


def named_scaling(name: str, channels: int) -> Scaling:
    """Return the scaling called ``name``, one of ``NAMED``.

    ``0..1`` is x / 255. ``-bgr`` and ``-rgb`` take the channels in that order, and the constants by their place: the
    first mean belongs to the first channel. ``UsageError`` ``preprocess-invalid``: three channels only, or unknown.
    """
    if name not in NAMED or (channels == 1 and name != "0..1"):
        raise invalid(f"there is no scaling {name!r} for {channels} channels; there are {', '.join(NAMED)}")
    kind, _, order = name.partition("-")
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    scale, mean, std = {
        "0..1": (1 / 255, zeros, ones),
        "tf": (1 / 127.5, ones, ones),
        "torch": (1 / 255, *_TORCH),
        "none": (1.0, zeros, ones),
        "caffe": (1.0, _CAFFE_RGB, ones),
    }[kind]
    return Scaling(scale, mean, std, order or "rgb")
