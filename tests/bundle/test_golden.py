"""The made-up pictures: deterministic, varied, of any size."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from xxdeploy.bundle.golden import golden_images


def test_equal_arguments_give_equal_pictures_and_others_do_not() -> None:
    images = golden_images(3, 40, 30, 3)
    assert images.shape == (3, 40, 30, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, golden_images(3, 40, 30, 3))
    assert not np.array_equal(images, golden_images(3, 40, 30, 3, seed=1))
    assert not np.array_equal(images[0], images[1])


def test_the_pixels_are_the_same_everywhere() -> None:
    """Fixed once: a changed digest means that bundles made before and after differ."""
    digest = hashlib.sha256(golden_images(2, 33, 47, 3).tobytes()).hexdigest()
    assert digest == "485215fb4bdcd07450622e35415baed1c1755f44ea79e465fadb7911440431d8"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (28, 28, 1), (600, 600, 3)])
def test_sizes(shape: tuple[int, int, int]) -> None:
    assert golden_images(1, *shape).shape == (1, *shape)


def test_the_whole_range_is_used() -> None:
    for image in golden_images(8, 64, 64, 3):
        assert np.ptp(image) > 100
        assert image.std() > 15
