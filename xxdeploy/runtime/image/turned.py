"""Resizing of a picture that lies on its side, without a second copy of it: photographs of phones are stored so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.runtime.image.resample import ANTIALIASES, STRIP, is_vertical_first

_TURN = Image.Transpose
SIDEWAYS = (_TURN.TRANSPOSE, _TURN.ROTATE_90, _TURN.ROTATE_270, _TURN.TRANSVERSE)
"""Turns that exchange width and height."""
_LINES = 1 << 19
"""Pixels that are turned at a time: 2 MB, cut out, turned and narrowed."""


def is_worth_strips(picture: Image.Image, turn: Image.Transpose, size: tuple[int, int], resample: str) -> bool:
    """Return whether :func:`resample_turned` serves this filter and ``size`` (width, height), and saves memory."""
    if turn not in SIDEWAYS or resample not in ANTIALIASES or is_vertical_first((picture.height, picture.width), size):
        return False
    return picture.width * picture.height > STRIP


def resample_turned(
    picture: Image.Image, turn: Image.Transpose, size: tuple[int, int], resample: str
) -> NDArray[np.uint8]:
    """Turn ``picture`` and bring it to ``size`` (width, height), by a name of ``ANTIALIASES``.

    Pillow resizes each line by itself, and then each column. So strips of lines are turned and get the right width, one
    after the other, and all of them together the right height: the same pixels as ``picture.transpose(turn)`` gives.

    Returns
    -------
    (height, width, channels) uint8.
    """
    height = picture.width
    lines = max(1, _LINES // picture.height)
    narrow = Image.new(picture.mode, (size[0], height))
    for first in range(0, height, lines):
        last = min(first + lines, height)
        strip = picture.crop(_columns(picture, turn, first, last)).transpose(turn)
        narrow.paste(strip.resize((size[0], last - first), ANTIALIASES[resample]), (0, first))
    resized = narrow.resize(size, ANTIALIASES[resample])
    return np.asarray(resized, np.uint8).reshape(size[1], size[0], len(picture.getbands()))


def _columns(picture: Image.Image, turn: Image.Transpose, first: int, last: int) -> tuple[int, int, int, int]:
    """Return the box of ``picture`` that holds some lines of the turned one."""
    if turn in (_TURN.TRANSPOSE, _TURN.ROTATE_270):  # the first line is the first column
        return first, 0, last, picture.height
    return picture.width - last, 0, picture.width - first, picture.height
