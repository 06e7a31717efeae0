from __future__ import annotations

import pytest

from xxdeploy.datasets.batch_size import batch_that_fits


@pytest.mark.parametrize(
    ("most", "size", "batch"),
    [(8, 32, 8), (8, 224, 8), (8, 299, 4), (8, 331, 3), (16, 224, 16), (16, 331, 7), (8, 1024, 2)],
)
def test_larger_images_make_smaller_batches(most: int, size: int, batch: int) -> None:
    assert batch_that_fits(most, size, size) == batch
