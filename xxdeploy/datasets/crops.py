"""Random crops of photographs: many different images from a few files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.picture import open_picture

if TYPE_CHECKING:
    from xxdeploy.datasets.images import ImageSet


@dataclass(frozen=True, slots=True)
class Crop:
    """A square part of a picture, mirrored left to right if ``mirrored``.

    ``side`` is a share of the picture's short side, above 0 and at most 1; ``x`` and ``y`` are the left and upper edge
    as shares (0..1) of the room that the square leaves.
    """

    side: float
    x: float
    y: float
    mirrored: bool

    def __post_init__(self) -> None:
        if not (0 < self.side <= 1 and 0 <= self.x <= 1 and 0 <= self.y <= 1):
            raise ValueError(f"a crop outside its picture: {self}")

    def __str__(self) -> str:
        return f"{self.side:.4f}+{self.x:.4f}+{self.y:.4f}{'m' if self.mirrored else ''}"

    def cut(self, path: Path) -> Image.Image:
        """Return the part of a file's picture, RGB. ``UsageError`` ``image-*`` as ``open_picture``."""
        picture, _ = open_picture(path, "RGB")
        side = max(1, round(self.side * min(picture.size)))
        left, top = round(self.x * (picture.width - side)), round(self.y * (picture.height - side))
        part = picture.crop((left, top, left + side, top + side))
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else part


def crops_of(photos: ImageSet, count: int, smallest: float, seed: int) -> ImageSet:
    """Return ``count`` random crops of ``photos``, whole files, as many of each as of any other (one more of some).

    The side of a crop is uniform in ``smallest``..1 of the short side, its place uniform, and half of the crops are
    mirrored. All follow from the seed, the names of the files and the number of the crop.

    ``UsageError`` ``bad-samples``: ``count`` below 1.
    """
    if count < 1:
        raise UsageError(f"--samples {count} is less than 1", hint="use 1 or more", code="bad-samples")
    files, crops = [], []
    for number in range(count):
        index = number % len(photos)
        files.append(photos.files[index])
        crops.append(_drawn(smallest, f"{seed}:{photos.names[index]}:{number // len(photos)}"))
    return photos.cropped(files, crops)


def _drawn(smallest: float, key: str) -> Crop:
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
    side, x, y = (int.from_bytes(digest[start : start + 4], "big") / 0xFFFFFFFF for start in (0, 4, 8))
    return Crop(smallest + (1 - smallest) * side, x, y, mirrored=digest[12] >= 128)
