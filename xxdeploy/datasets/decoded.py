"""Pictures that are decoded once: an export reads its calibration images in up to ten passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.crops import Crop
from xxdeploy.datasets.images import ImageSet
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import Pixels
from xxdeploy.runtime.inputs import InputForm

Batches = Iterator[NDArray[np.float32]]
"""Preprocessed batches (n, h, w, c)."""

LIMIT = 256 << 20
"""Bytes of decoded pictures that are kept: 1,700 of 224 x 224 pixels, uint8."""


class Decoded:
    """Keeps the pixels of pictures, at the size of the network's input, up to ``limit`` bytes in all.

    A photograph of 12 megapixels takes 0.1 s to decode, and 150 kB at 224 x 224 pixels. Pictures beyond the limit are
    decoded in each pass. A file that changes in the meantime counts as it was when it was read first.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._left = limit
        self._kept: dict[tuple[Path, Crop | None, Preprocess], Pixels] = {}

    def batches(self, images: ImageSet, preprocess: InputForm, size: int) -> Batches:
        """Yield the batches of :meth:`ImageSet.batches`: the same values, and the same errors.

        Only pictures are kept: numbers are read fast, and samples of several inputs in each pass.
        """
        if images.is_table or not isinstance(preprocess, Preprocess):
            yield from images.batches(preprocess, size)
            return
        if size < 1:
            raise UsageError(f"the batch size {size} is less than 1", hint="use 1 or more", code="bad-batch-size")
        crops = images.crops or (None,) * len(images)
        pictures = list(zip(images.files, crops, strict=True))
        for start in range(0, len(pictures), size):
            part: list[NDArray[Any]] = [self._pixels(*each, preprocess) for each in pictures[start : start + size]]
            yield preprocess.normalize(np.stack(part))

    def _pixels(self, path: Path, crop: Crop | None, preprocess: Preprocess) -> Pixels:
        """Return one picture, (height, width, channels)."""
        key = path, crop, preprocess
        if (kept := self._kept.get(key)) is not None:
            return kept
        pixels = preprocess.image(path if crop is None else crop.cut(path))
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._kept[key] = pixels
        return pixels
