"""Pictures are decoded once, and batches are those of the set itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xxdeploy.datasets import crops_of, open_images
from xxdeploy.datasets.decoded import Decoded
from xxdeploy.datasets.images import ImageSet
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess

PREPROCESS = Preprocess(8, 8)
BYTES = 8 * 8 * 3


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 10, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    return open_images(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_batches_are_those_of_the_set(photos: ImageSet, size: int) -> None:
    decoded = Decoded()
    for images in (photos, photos.sample(3), crops_of(photos, 7, 0.5, 0)):
        expected = list(images.batches(PREPROCESS, size))
        for _ in range(2):
            found = list(decoded.batches(images, PREPROCESS, size))
            assert [batch.shape for batch in found] == [batch.shape for batch in expected]
            np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_a_picture_is_read_once_as_long_as_there_is_room(photos: ImageSet) -> None:
    decoded = Decoded(limit=3 * BYTES)
    first = np.concatenate(list(decoded.batches(photos, PREPROCESS, 2)))
    for path in photos.files:
        path.write_bytes(b"gone")
    kept = replace(photos, files=photos.files[:3], labels=None)
    np.testing.assert_array_equal(np.concatenate(list(decoded.batches(kept, PREPROCESS, 2))), first[:3])
    with pytest.raises(UsageError, match=r"3\.png"):
        list(decoded.batches(photos, PREPROCESS, 2))


def test_another_preprocessing_is_another_picture(photos: ImageSet) -> None:
    decoded = Decoded()
    list(decoded.batches(photos, PREPROCESS, 2))
    other = Preprocess(6, 6, mode="caffe")
    np.testing.assert_array_equal(
        np.concatenate(list(decoded.batches(photos, other, 5))), np.concatenate(list(photos.batches(other, 5)))
    )


def test_a_batch_has_an_image(photos: ImageSet) -> None:
    with pytest.raises(UsageError) as refused:
        list(Decoded().batches(photos, PREPROCESS, 0))
    assert refused.value.code == "bad-batch-size"
