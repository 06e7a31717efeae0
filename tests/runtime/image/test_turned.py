"""Pictures that lie on their side: in strips as at once, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from xxdeploy.runtime.image.preprocess import Preprocess, Sizing
from xxdeploy.runtime.image.resample import ANTIALIASES
from xxdeploy.runtime.image.turned import SIDEWAYS, is_worth_strips, resample_turned

PIXELS = np.random.default_rng(8).integers(0, 256, (2111, 2503, 3), np.uint8)  # many strips, the last one short


@pytest.mark.parametrize("resample", ANTIALIASES)
@pytest.mark.parametrize("turn", SIDEWAYS, ids=lambda turn: turn.name)
def test_strips_change_nothing(turn: Image.Transpose, resample: str) -> None:
    picture = Image.fromarray(PIXELS)
    for size in ((97, 64), (31, 2600)):
        assert is_worth_strips(picture, turn, size, resample)
        expected = np.asarray(picture.transpose(turn).resize(size, ANTIALIASES[resample]))
        assert np.array_equal(resample_turned(picture, turn, size, resample), expected)
    kept = resample_turned(picture, turn, (picture.height, picture.width), resample)
    assert np.array_equal(kept, np.asarray(picture.transpose(turn)))


def test_where_strips_do_not_serve() -> None:
    picture = Image.fromarray(PIXELS)
    turn, size, name = Image.Transpose.ROTATE_90, (97, 64), "bilinear-antialias"
    assert not is_worth_strips(picture, Image.Transpose.ROTATE_180, size, name)
    assert not is_worth_strips(picture, turn, size, "bilinear")
    assert not is_worth_strips(Image.new("RGB", (60, 40)), turn, size, name)
    assert not is_worth_strips(picture, turn, (2100, 64), name)  # the columns come first


def test_a_panorama_on_its_side_has_the_pixels_of_the_upright_one() -> None:
    picture = Image.fromarray(np.concatenate([PIXELS, PIXELS[:, ::-1]], axis=1)[:900])
    upright = Image.fromarray(np.asarray(picture.transpose(Image.Transpose.ROTATE_270)))
    picture.getexif()[0x0112] = 6
    assert upright.height > 5 * upright.width
    assert np.array_equal(Preprocess(40, 24).image(picture), Preprocess(40, 24).image(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sizing", [Sizing(), Sizing("pad"), Sizing(resample="bilinear")], ids=str)
def test_large_photographs_are_upright(orientation: int, sizing: Sizing) -> None:
    from PIL import ImageOps

    picture = Image.fromarray(PIXELS[..., 0])
    picture.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(picture)
    upright = Image.fromarray(np.asarray(expected))
    preprocess = Preprocess(24, 40, 1, sizing=sizing)
    assert np.array_equal(preprocess.image(picture), preprocess.image(upright))
