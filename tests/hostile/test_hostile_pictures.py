"""Damaged pictures of every accepted format: an answer or a ``UsageError``, never anything else."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.picture import FORMATS
from xxdeploy.runtime.image.preprocess import Preprocess

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)


def encoded(kind: str) -> bytes:
    if kind in ("WEBP", "AVIF") and not features.check(kind.lower()):
        pytest.skip(f"this Pillow has no {kind}")
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else {}
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_and_upright(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encoded(kind))
    upright = (40, 56) if kind in ("BMP", "GIF", "PPM") else (56, 40)
    image = Preprocess(*upright).image(tmp_path / "a")
    expected = PIXELS if upright == (40, 56) else np.rot90(PIXELS, -1)
    assert np.abs(image.astype(int) - expected).mean() < (1 if kind in ("PNG", "TIFF", "BMP", "PPM") else 60)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_cut_short(kind: str, tmp_path: Path) -> None:
    content, refused = encoded(kind), 0
    for end in range(1, len(content), max(1, len(content) // 40)):
        (tmp_path / "a").write_bytes(content[:end])
        try:
            Preprocess(8, 8).image(tmp_path / "a")
        except UsageError:
            refused += 1
    assert refused >= 30


@settings(max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=30))
def test_fuzz_changed_bytes(tmp_path: Path, kind: str, changes: list[tuple[float, int]]) -> None:
    content = bytearray(encoded(kind))
    for where, value in changes:
        content[int(where**3 * (len(content) - 1))] = value  # most of them in the header
    (tmp_path / "a").write_bytes(content)
    with contextlib.suppress(UsageError):
        assert Preprocess(8, 8).image(tmp_path / "a").shape == (8, 8, 3)
