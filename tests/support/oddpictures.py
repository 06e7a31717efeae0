"""Noise of odd sizes, to compare resizing with other libraries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZES = 200


def odd_pictures(count: int = SIZES) -> Iterator[tuple[NDArray[np.uint8], Image.Image, int, int]]:
    """Yield pixels, the same as a picture, and a height and width to bring them to.

    They shrink, grow, or do one in x and the other in y; every second one is gray.
    """
    random = np.random.default_rng(0)
    for number in range(count):
        height, width = random.integers(1, 200, 2)
        pixels = random.integers(0, 256, (height, width, (1, 3)[number % 2]), np.uint8)
        new_height, new_width = random.integers(1, 150, 2).tolist()
        yield pixels, Image.fromarray(pixels if number % 2 else pixels[..., 0]), new_height, new_width
