"""The pictures of the self-test.

They are made up, because a bundle travels to other people's devices and must not carry anybody's
photographs: neither the calibration set's nor the evaluation set's. What the self-test compares is
arithmetic, and for that any picture with smooth parts, edges and noise will do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHAPES = 6
_NOISE = 16


def golden_images(n: int, height: int, width: int, channels: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw ``n`` pictures: gradients between four corner colors, rectangles and ellipses, noise.

    Only integers are added and multiplied, so that a mathematics library cannot change a pixel.

    Returns
    -------
    (n, height, width, channels) uint8; equal arguments give equal pictures.
    """
    random = np.random.default_rng([seed, n, height, width, channels])
    return np.stack([_draw(random, height, width, channels) for _ in range(n)])


def _draw(random: np.random.Generator, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    rows = np.arange(height, dtype=np.int64)[:, None, None]
    columns = np.arange(width, dtype=np.int64)[None, :, None]
    bottom, right = max(height - 1, 1), max(width - 1, 1)
    corners = random.integers(0, 256, (2, 2, channels))
    upper = corners[0, 0] * (right - columns) + corners[0, 1] * columns
    lower = corners[1, 0] * (right - columns) + corners[1, 1] * columns
    picture: NDArray[np.int64] = (upper * (bottom - rows) + lower * rows) // (bottom * right)
    for number in range(_SHAPES):
        y, x = random.integers(0, height), random.integers(0, width)
        half_height, half_width = random.integers(1, height // 3 + 2), random.integers(1, width // 3 + 2)
        down, across = np.abs(rows - y) * half_width, np.abs(columns - x) * half_height
        limit = half_height * half_width
        inside = np.maximum(down, across) <= limit if number % 2 else down**2 + across**2 <= limit**2
        picture = np.where(inside, random.integers(0, 256, channels), picture)
    picture = picture + random.integers(-_NOISE, _NOISE + 1, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)
