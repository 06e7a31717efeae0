"""Each resampling gives the pixels of the library whose name it bears, over odd sizes, for gray and for color."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oddpictures import odd_pictures
from PIL import Image

from xxdeploy.runtime.image import resample as module
from xxdeploy.runtime.image.resample import ANTIALIASES, FRACTIONAL, RESAMPLES, is_vertical_first, resample, rounded

CLOSE = 1e-3
"""TensorFlow adds the same products in another order."""


def largest_error(name: str, expected: Any, *, shrink: bool = False) -> float:
    worst = 0.0
    for pixels, picture, height, width in odd_pictures():
        if shrink and (height > len(pixels) or width > pixels.shape[1]):
            continue
        theirs = np.asarray(expected(pixels, height, width), np.float64).reshape(height, width, -1)
        ours = resample(picture, (width, height), name)
        ours = rounded(ours) if shrink else ours
        assert ours.shape == theirs.shape
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst


def tensorflow(method: str) -> Any:
    tf = pytest.importorskip("tensorflow")
    return lambda pixels, height, width: tf.image.resize(pixels, (height, width), method=method).numpy()


def test_bilinear_equals_tensorflow_to_the_bit() -> None:
    assert largest_error("bilinear", tensorflow("bilinear")) == 0


@pytest.mark.parametrize(("name", "method"), [("bicubic", "bicubic"), ("lanczos", "lanczos3"), ("area", "area")])
def test_the_other_filters_of_tensorflow_differ_by_the_order_of_sums_only(name: str, method: str) -> None:
    assert largest_error(name, tensorflow(method)) < CLOSE


@pytest.mark.parametrize(("name", "flag"), [("bilinear", "INTER_LINEAR"), ("area", "INTER_AREA")])
def test_opencv_is_within_a_step_where_it_shrinks(name: str, flag: str) -> None:
    cv2 = pytest.importorskip("cv2")

    def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=getattr(cv2, flag)))

    assert largest_error(name, resize, shrink=True) <= 1


@pytest.mark.parametrize("name", sorted(set(RESAMPLES) - set(FRACTIONAL)))
def test_the_others_are_those_of_pillow(name: str) -> None:
    how = Image.Resampling[name.removesuffix("-antialias").upper()]
    for _, picture, height, width in odd_pictures():
        ours = resample(picture, (width, height), name)
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours.squeeze(), np.asarray(picture.resize((width, height), how)).squeeze())


@pytest.mark.parametrize("name", RESAMPLES)
def test_a_picture_of_the_right_size_keeps_its_bytes(name: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    found = resample(Image.fromarray(pixels), (7, 9), name)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(resample(Image.fromarray(pixels), (4, 5), name, box=(2, 3, 6, 8)), pixels[3:8, 2:6])


@pytest.mark.parametrize("name", RESAMPLES)
def test_a_box_and_a_part_are_cut_from_the_same_pixels(name: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 30, 3), np.uint8)
    whole, boxed = Image.fromarray(pixels), Image.fromarray(pixels[5:35, 3:20])
    expected = resample(boxed, (11, 13), name)
    if name.endswith("-antialias"):  # Pillow's filters also read beside the box
        how = Image.Resampling[name.removesuffix("-antialias").upper()]
        expected = np.asarray(whole.resize((11, 13), how, (3, 5, 20, 35)))
    np.testing.assert_array_equal(resample(whole, (11, 13), name, box=(3, 5, 20, 35)), expected)
    part = resample(whole, (11, 13), name, box=(3, 5, 20, 35), part=(2, 1, 9, 12))
    np.testing.assert_array_equal(part, expected[1:12, 2:9])


@pytest.mark.parametrize("name", FRACTIONAL)
def test_a_large_picture_in_strips_has_the_same_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (160, 90, 3), np.uint8))
    expected = resample(picture, (33, 70), name)
    monkeypatch.setattr(module, "STRIP", 1000)
    np.testing.assert_array_equal(resample(picture, (33, 70), name), expected)


def test_rounding_clips_what_overshoots() -> None:
    assert rounded(np.array([-3.2, 0.5, 1.5, 254.6, 260], np.float32)).tolist() == [0, 0, 2, 255, 255]
    step = Image.fromarray(np.repeat(np.array([[0, 0, 255, 255]], np.uint8), 4, 0))
    overshoots = resample(step, (9, 9), "bicubic")
    assert overshoots.min() < 0
    assert overshoots.max() > 255
    assert rounded(overshoots).dtype == np.uint8


@pytest.mark.parametrize("name", ANTIALIASES)
@pytest.mark.parametrize(
    ("old", "new", "first"), [((19, 41), (10, 12), 1), ((41, 19), (10, 12), 0), ((30, 60), (9, 18), 0)]
)
def test_the_order_of_the_passes_is_the_same_in_every_pillow(
    name: str, old: tuple[int, int], new: tuple[int, int], first: int
) -> None:
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (old[1], old[0], 3), np.uint8))
    assert is_vertical_first(old, new) == first
    between = (old[0], new[1]) if first else (new[0], old[1])
    passes = picture.resize(between, ANTIALIASES[name]).resize(new, ANTIALIASES[name])
    assert np.array_equal(resample(picture, new, name), np.asarray(passes))
    other = picture.resize((new[0], old[1]) if first else (old[0], new[1]), ANTIALIASES[name])
    assert not np.array_equal(resample(picture, new, name), np.asarray(other.resize(new, ANTIALIASES[name])))
