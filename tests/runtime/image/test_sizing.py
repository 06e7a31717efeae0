"""Crops and borders are those of Keras' loaders and of Pillow; what contradicts itself is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oddpictures import odd_pictures
from PIL import Image, ImageOps

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.sizing import DEFAULT_SIZING, RESIZES, Sizing


def apply(sizing: Sizing, picture: Image.Image, height: int, width: int) -> np.ndarray:
    return np.asarray(sizing.apply(picture, (width, height), "a picture"))


def test_crop_is_that_of_the_loaders_of_keras() -> None:
    keras = pytest.importorskip("keras")
    crop = Sizing("crop", "bilinear", 1.0)
    for pixels, picture, height, width in odd_pictures():
        theirs = keras.preprocessing.image.smart_resize(pixels, (height, width))
        np.testing.assert_array_equal(apply(crop, picture, height, width), theirs)


@pytest.mark.parametrize("name", ["nearest", "bilinear-antialias"])
def test_crop_is_that_of_load_img(name: str, tmp_path: Any) -> None:
    keras = pytest.importorskip("keras")
    crop = Sizing("crop", name, 1.0)
    for _, picture, height, width in odd_pictures(60):
        if min(picture.width * height // width, picture.height * width // height) == 0:
            continue  # a crop without pixels, which Keras takes from beside the box
        picture.save(tmp_path / "a.png")
        mode = "rgb" if picture.mode == "RGB" else "grayscale"
        how = {"interpolation": name.removesuffix("-antialias"), "keep_aspect_ratio": True, "color_mode": mode}
        theirs = keras.utils.load_img(tmp_path / "a.png", target_size=(height, width), **how)
        np.testing.assert_array_equal(apply(crop, picture, height, width).squeeze(), np.asarray(theirs).squeeze())


def test_pad_is_that_of_the_loaders_of_keras() -> None:
    tf = pytest.importorskip("tensorflow")
    compared = 0
    for pixels, picture, height, width in odd_pictures():
        try:
            theirs = tf.image.resize_with_pad(pixels, height, width).numpy()
        except tf.errors.InvalidArgumentError:
            continue  # a picture without pixels
        np.testing.assert_array_equal(apply(Sizing("pad", "bilinear"), picture, height, width), theirs)
        compared += 1
    assert compared > 180


def test_a_strip_keeps_a_pixel_where_tensorflow_has_none() -> None:
    strip = Image.fromarray(np.full((1, 500), 200, np.uint8))
    found = apply(Sizing("pad", "bilinear"), strip, 20, 20)
    assert sorted(set(found.ravel().tolist())) == [0, 200]


def test_fit_is_that_of_pillow() -> None:
    for _, picture, height, width in odd_pictures():
        theirs = np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS))
        ours = apply(Sizing("fit", "lanczos-antialias"), picture, height, width)
        np.testing.assert_array_equal(ours.squeeze(), theirs.squeeze())


@pytest.mark.parametrize(("color", "expected"), [(None, [0, 0, 0]), ((9,), [9, 9, 9]), ((1, 2, 3), [1, 2, 3])])
def test_the_color_of_the_border(color: tuple[int, ...] | None, expected: list[int]) -> None:
    wide = Image.fromarray(np.full((10, 40, 3), 77, np.uint8))
    found = apply(Sizing("pad", "nearest", pad_color=color), wide, 20, 20)
    assert found[0, 0].tolist() == found[19, 19].tolist() == expected
    assert (found[7:12] == 77).all()


def test_below_one_the_crop_covers_a_larger_square_first() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    for name in ("bilinear", "bilinear-antialias"):
        covered = apply(Sizing(resample=name), picture, 32, 43)
        np.testing.assert_array_equal(apply(Sizing("crop", name), picture, 28, 28), covered[2:30, 7:35])


@pytest.mark.parametrize(
    "sizing",
    [DEFAULT_SIZING, Sizing("crop"), Sizing("crop", "bilinear", 1.0), Sizing("fit", "lanczos-antialias"),
     Sizing("pad", "area", pad_color=(114,))],
    ids=str,
)  # fmt: skip
def test_it_survives_the_round_trip(sizing: Sizing) -> None:
    assert Sizing.from_json(sizing.to_json()) == sizing
    preprocess = Preprocess(8, 9, 3, "caffe", sizing)
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_only_what_older_readers_know_is_written_as_they_know_it() -> None:
    assert DEFAULT_SIZING.to_json() == {"resize": "squash"}
    assert Sizing("crop").to_json() == {"resize": "crop"}
    assert [Sizing(resize).is_new for resize in RESIZES] == [False, False, True, True]
    assert Sizing(resample="bilinear").is_new
    assert Sizing("crop", crop_fraction=1.0).is_new


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"resize": "stretch"}, "squash, crop, fit, pad"),
        ({"resample": "cubic"}, "bicubic-antialias"),
        ({"resize": "fit", "resample": "bilinear"}, "use 'crop'"),
        ({"resize": "crop", "crop_fraction": 1}, "crop_fraction"),
        ({"resize": "crop", "crop_fraction": 1.1}, "0.1 to 1"),
        ({"resize": "crop", "crop_fraction": float("nan")}, "0.1 to 1"),
        ({"crop_fraction": 1.0}, "is for resize 'crop'"),
        ({"pad_color": (0,)}, "is for resize 'pad'"),
        ({"resize": "pad", "pad_color": (0, 0)}, "one or three"),
        ({"resize": "pad", "pad_color": (256,)}, "0 to 255"),
        ({"resize": "pad", "pad_color": (True,)}, "0 to 255"),
        ({"resize": "pad", "pad_color": [0]}, "one or three"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        Sizing(**fields)
    assert caught.value.code == "preprocess-invalid"


def test_a_color_for_another_number_of_channels() -> None:
    with pytest.raises(UsageError, match="1 channel"):
        Preprocess(8, 8, 1, sizing=Sizing("pad", pad_color=(1, 2, 3)))
