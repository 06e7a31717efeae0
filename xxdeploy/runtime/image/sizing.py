"""How a picture of any size becomes one of the input's size: what happens to the aspect ratio, and which filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from xxdeploy.runtime.image.picture import check_pixels
from xxdeploy.runtime.image.resample import ANTIALIASED, FRACTIONAL, RESAMPLES, Box, Pixels, resample
from xxdeploy.runtime.image.scaling import float_from, invalid

RESIZES = ("squash", "crop", "fit", "pad")
CROP_FRACTION = 0.875
"""224 of 256, the center crop of the ImageNet papers."""
_LEAST_FRACTION = 0.1
_F32 = np.float32


@dataclass(frozen=True, slots=True)
class Sizing:
    """The aspect ratio and the filter.

    Parameters
    ----------
    resize
        ``squash``: to (height, width), whatever the aspect ratio. ``crop`` with ``crop_fraction`` 1: the largest box
        of the right aspect ratio in the middle, in whole pixels, is brought to size: ``crop_to_aspect_ratio`` of Keras'
        loaders, ``smart_resize``, and ``keep_aspect_ratio`` of ``load_img``. ``crop`` below 1: the picture is resized
        so that it just covers round(size / crop_fraction), then the middle is cut out. ``fit``: as ``crop`` with 1,
        but the box has fractions of pixels: Pillow's ``ImageOps.fit``; not for the names of ``FRACTIONAL``. ``pad``:
        the picture is resized to fit inside and put in the middle of ``pad_color``: ``pad_to_aspect_ratio`` of Keras'
        loaders, ``tf.image.resize_with_pad``.
    resample
        One of ``RESAMPLES``.
    crop_fraction
        0.1 to 1, for ``crop`` only.
    pad_color
        Values of 0..255, one for all channels or one for each, for ``pad`` only; None is black.

    Raises
    ------
    UsageError
        ``preprocess-invalid``.
    """

    resize: str = "squash"
    resample: str = ANTIALIASED
    crop_fraction: float = CROP_FRACTION
    pad_color: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise invalid(f"resize must be one of {', '.join(RESIZES)}, not {self.resize!r}")
        if self.resample not in RESAMPLES:
            raise invalid(f"resample must be one of {', '.join(RESAMPLES)}, not {self.resample!r}")
        if self.resize == "fit" and self.resample in FRACTIONAL:
            raise invalid(f"resize 'fit' is Pillow's, and resample {self.resample!r} is not; use 'crop'")
        fraction = self.crop_fraction
        if type(fraction) is not float or not _LEAST_FRACTION <= fraction <= 1:
            raise invalid(f"crop_fraction must be a number of {_LEAST_FRACTION} to 1, not {fraction!r}")
        if self.resize != "crop" and fraction != CROP_FRACTION:
            raise invalid(f"crop_fraction {fraction:g} is for resize 'crop', not {self.resize!r}")
        if self.pad_color is None:
            return
        if self.resize != "pad":
            raise invalid(f"pad_color is for resize 'pad', not {self.resize!r}")
        right = type(self.pad_color) is tuple and all(type(v) is int and 0 <= v <= 255 for v in self.pad_color)
        if not right or len(self.pad_color) not in (1, 3):
            raise invalid(f"pad_color must be one or three whole numbers of 0 to 255, not {self.pad_color!r}")

    @property
    def has_fractions(self) -> bool:
        """Whether resized pixels are float32 with fractions."""
        return self.resample in FRACTIONAL

    @property
    def keeps_the_right_size(self) -> bool:
        """Whether a picture of the right size stays as it is."""
        return self.resize != "crop" or self.crop_fraction == 1

    def apply(self, picture: Image.Image, size: tuple[int, int], name: str) -> Pixels:
        """Bring ``picture`` (mode ``L`` or ``RGB``) to ``size`` (width, height).

        ``name`` is the picture's in errors: ``UsageError`` ``image-too-large`` if it would grow too far. Returns
        (height, width, channels), uint8 or float32 as ``resample`` does.
        """
        if self.resize == "squash":
            return resample(picture, size, self.resample)
        if self.resize == "pad":
            return self._padded(picture, size)
        if self.resize == "fit":
            return resample(picture, size, self.resample, box=_fit_box(picture.size, size))
        if self.crop_fraction == 1:
            return resample(picture, size, self.resample, box=_crop_box(picture.size, size))
        return self._center(picture, size, name)

    @property
    def geometry(self) -> str:
        """What happens to the aspect ratio, in a few words: ``crop 1``."""
        words = [self.resize, f"{self.crop_fraction:g}" if self.resize == "crop" else ""]
        if self.pad_color is not None:
            words.append("on " + ",".join(map(str, self.pad_color)))
        return " ".join(filter(None, words))

    def __str__(self) -> str:
        """Return all that is set in a few words: ``crop 1, bilinear``."""
        return f"{self.geometry}, {self.resample}"

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain values; of those but ``resize`` the ones that differ from the default."""
        fields: dict[str, object] = {"resize": self.resize}
        if self.resample != ANTIALIASED:
            fields["resample"] = self.resample
        if self.crop_fraction != CROP_FRACTION:
            fields["crop_fraction"] = self.crop_fraction
        if self.pad_color is not None:
            fields["pad_color"] = list(self.pad_color)
        return fields

    @property
    def is_new(self) -> bool:
        """Whether a reader of manifest schemas 1 and 2 would not know it: it knows two values of ``resize``."""
        return self.resize in ("fit", "pad") or len(self.to_json()) > 1

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Sizing:
        """Read what ``to_json`` wrote. ``UsageError`` ``preprocess-invalid``."""
        given: dict[str, Any] = dict(value)
        if "crop_fraction" in given:
            given["crop_fraction"] = float_from(given["crop_fraction"])
        if "pad_color" in given:
            if not isinstance(given["pad_color"], list):
                raise invalid(f"pad_color must be a list of numbers, not {given['pad_color']!r}")
            given["pad_color"] = tuple(given["pad_color"])
        return cls(**given)

    def _padded(self, picture: Image.Image, size: tuple[int, int]) -> Pixels:
        inner, (left, top) = _letterbox(picture.size, size)
        pixels = resample(picture, inner, self.resample)
        result = np.empty((size[1], size[0], pixels.shape[2]), pixels.dtype)
        result[:] = (0,) if self.pad_color is None else self.pad_color
        result[top : top + inner[1], left : left + inner[0]] = pixels
        return result

    def _center(self, picture: Image.Image, size: tuple[int, int], name: str) -> Pixels:
        cover = [round(side / self.crop_fraction) for side in size]
        scale = max(cover[0] / picture.width, cover[1] / picture.height)
        grown = max(cover[0], round(picture.width * scale)), max(cover[1], round(picture.height * scale))
        check_pixels(name, grown)  # a strip of 1 x 1,000,000 pixels grows when its short side does
        left, top = (grown[0] - size[0]) // 2, (grown[1] - size[1]) // 2
        return resample(picture, grown, self.resample, part=(left, top, left + size[0], top + size[1]))


DEFAULT_SIZING = Sizing()
"""That of a bundle whose manifest says ``squash`` and no more."""


def _crop_box(old: tuple[int, int], new: tuple[int, int]) -> Box:
    """Return the box of Keras' ``smart_resize``, which divides in float32 and drops fractions of pixels."""
    height = max(min(old[1], int(_F32(old[0] * new[1]) / _F32(new[0]))), 1)
    width = max(min(old[0], int(_F32(old[1] * new[0]) / _F32(new[1]))), 1)
    left, top = (old[0] - width) // 2, (old[1] - height) // 2
    return left, top, left + width, top + height


def _fit_box(old: tuple[int, int], new: tuple[int, int]) -> Box:
    """Return the box of Pillow's ``ImageOps.fit``."""
    ratio, wanted = old[0] / old[1], new[0] / new[1]
    width, height = float(old[0]), float(old[1])
    if ratio > wanted:
        width = wanted * height
    elif ratio < wanted:
        height = width / wanted
    left, top = (old[0] - width) * 0.5, (old[1] - height) * 0.5
    return left, top, left + width, top + height


def _letterbox(old: tuple[int, int], new: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return size and place (left, top) of the picture inside ``new``, by ``tf.image.resize_with_pad`` in float32."""
    ratio = max(_F32(side) / _F32(room) for side, room in zip(old, new, strict=True))
    exact = [_F32(side) / ratio for side in old]
    inner = [max(1, min(room, int(np.floor(side)))) for side, room in zip(exact, new, strict=True)]
    place = [max(0, int(np.floor((_F32(room) - side) / 2))) for side, room in zip(exact, new, strict=True)]
    return (inner[0], inner[1]), (place[0], place[1])
