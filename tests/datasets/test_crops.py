"""Random crops of photographs: drawn evenly, the same for one seed, and cut where they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from codes import code_of
from PIL import Image

from xxdeploy.datasets import ImageSet, crops_of, open_images
from xxdeploy.datasets.crops import Crop
from xxdeploy.runtime.image.preprocess import Preprocess


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    """Three pictures, 8 pixels high and 12 wide; the value of a pixel is its column."""
    columns = np.broadcast_to(np.arange(12, dtype=np.uint8)[None, :, None] * 20, (8, 12, 3))
    for index in range(3):
        Image.fromarray(columns + np.uint8(index)).save(tmp_path / f"{index}.png")
    return open_images(tmp_path)


def test_a_crop_is_cut_where_it_says(photos: ImageSet) -> None:
    left = np.asarray(Crop(0.5, 0.0, 0.0, mirrored=False).cut(photos.files[0]))
    right = np.asarray(Crop(0.5, 1.0, 1.0, mirrored=True).cut(photos.files[0]))
    assert left.shape == right.shape == (4, 4, 3)  # half of the short side
    assert left[0, :, 0].tolist() == [0, 20, 40, 60]
    assert right[0, :, 0].tolist() == [220, 200, 180, 160]
    assert np.asarray(Crop(1.0, 0.5, 0.5, mirrored=False).cut(photos.files[0])).shape == (8, 8, 3)


@pytest.mark.parametrize("side", [0.0, 1.1])
def test_a_crop_lies_inside_its_picture(side: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        Crop(side, 0.0, 0.0, mirrored=False)


def test_crops_are_drawn_evenly_and_follow_the_seed(photos: ImageSet) -> None:
    crops = crops_of(photos, 100, 0.25, seed=0)
    assert sorted(Counter(path.name for path in crops.files).values()) == [33, 33, 34]
    assert crops.names == crops_of(photos, 100, 0.25, seed=0).names
    assert set(crops.names).isdisjoint(crops_of(photos, 100, 0.25, seed=1).names)
    assert crops.names[:60] == crops_of(photos, 60, 0.25, seed=0).names
    assert crops.crops is not None
    assert 30 < sum(crop.mirrored for crop in crops.crops) < 70
    assert min(crop.side for crop in crops.crops) < 0.3
    assert max(crop.side for crop in crops.crops) > 0.95
    assert all(0.25 <= crop.side <= 1 for crop in crops.crops)
    assert code_of(crops_of, photos, 0, 0.25, 0) == "bad-samples"


def test_a_set_of_crops_is_sampled_compared_and_read_as_any_other(photos: ImageSet) -> None:
    crops = crops_of(photos, 30, 0.25, seed=0)
    few = crops.sample(6, seed=1)
    assert Counter(path.name for path in few.files) == {"0.png": 2, "1.png": 2, "2.png": 2}
    assert set(few.names) < set(crops.names)
    assert len({crops.digest, few.digest, photos.digest, crops_of(photos, 30, 0.25, seed=1).digest}) == 4
    kept = photos.apart_from(photos.sample(1))
    assert kept is not None
    rest = crops.apart_from(kept)
    assert rest is not None
    assert len(rest) == 10  # crops of the one photograph that is not in the other set

    (batch,) = few.batches(Preprocess(4, 4, 3, "none"), 8)
    assert batch.shape == (6, 4, 4, 3)
    assert few.crops is not None
    assert np.array_equal(batch[0], Preprocess(4, 4, 3, "none").batch([few.crops[0].cut(few.files[0])])[0])
    assert len({image.tobytes() for image in batch}) == 6
