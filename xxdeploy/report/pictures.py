"""Small pictures as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.picture import open_picture

QUALITY = 70


def data_uri(path: Path, size: int, mode: str = "RGB") -> str:
    """Return the picture in ``path``, at most ``size`` pixels wide and high, as a JPEG of a few kilobytes.

    Read as calibration and device read it, with the same limits. Empty where it cannot be read any more: a report
    does without it.
    """
    try:
        picture, _ = open_picture(path, mode)
    except UsageError:
        return ""
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
