"""Images of one kind cause no warning, images of another kind one that names the layers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from quantnets import batches, images, residual

from xxdeploy.datasets import ImageSet, open_images
from xxdeploy.quantize import Scheme, calibrate
from xxdeploy.quantize.measure.domain import FEWEST, compare_domains
from xxdeploy.results import DomainRecord, Progress, Ranges

Pixels = NDArray[np.uint8]
MODEL, SCHEME = residual(), Scheme()
SIDE = 16


def normalized(pixels: Pixels) -> NDArray[np.float32]:
    return (pixels / np.float32(127.5) - 1).astype(np.float32)


class Photographs:
    """Photographs of ImageNet's training set, in samples that do not overlap, and ranges that fit them."""

    def __init__(self, folder: Path) -> None:
        self._rest: ImageSet | None = open_images(folder).sample(640)
        self.ranges = calibrate(MODEL, batches(normalized(self.take(64))), method="percentile-99.99", data_digest="")
        self.held_back = self.take(64)

    def take(self, count: int) -> Pixels:
        """Return the next photographs, (count, SIDE, SIDE, 3)."""
        assert self._rest is not None
        some = self._rest.sample(count)
        self._rest = self._rest.apart_from(some)
        return np.stack([_opened(path) for path in some.files])

    def compared(self, seen: NDArray[np.float32]) -> DomainRecord:
        """Compare preprocessed images with those held back."""
        held_back = batches(normalized(self.held_back))
        return compare_domains(MODEL, self.ranges, SCHEME, held_back=held_back, seen=batches(seen))


def _opened(path: Path) -> Pixels:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((SIDE, SIDE)))


@cache
def _photographs(folder: Path) -> Photographs:
    return Photographs(folder)


@pytest.fixture
def photographs(shared_data: Path) -> Photographs:
    return _photographs(shared_data / "imagenet-train")


def gray(pixels: Pixels) -> Pixels:
    return np.stack([np.asarray(Image.fromarray(picture).convert("L").convert("RGB")) for picture in pixels])


def enlarged(pixels: Pixels) -> Pixels:
    """Return the pictures as if they had been of 5 pixels a side."""
    small = (Image.fromarray(picture).resize((5, 5)) for picture in pixels)
    return np.stack([np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for picture in small])


def noise(pixels: Pixels) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)


def darker(pixels: Pixels) -> Pixels:
    return (pixels * 0.5).astype(np.uint8)


def test_photographs_of_one_kind_cause_no_warning(photographs: Photographs) -> None:
    for _ in range(6):
        record = photographs.compared(normalized(photographs.take(64)))
        assert not record.warns, record.sentence
        assert record.differing == 0
        assert record.p_value is not None


@pytest.mark.parametrize("change", [gray, enlarged, noise, darker])
def test_pictures_of_another_kind_are_noticed(photographs: Photographs, change: object) -> None:
    assert callable(change)
    record = photographs.compared(normalized(change(photographs.held_back[::-1])))
    assert record.warns
    assert record.differing > 0
    assert record.worst[0].difference
    assert record.worst[0].sentence in record.sentence


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_wrong_preprocessing_is_noticed(photographs: Photographs, scale: float) -> None:
    """Pixels of 0..1 or 0..255 where -1..1 is expected."""
    seen = (photographs.held_back / np.float32(255) * np.float32(scale)).astype(np.float32)
    record = photographs.compared(seen)
    assert record.warns
    clipped = max(layer.clipped[1] or 0.0 for layer in record.worst)
    assert (clipped > 0.5) == (scale == 255)


@pytest.fixture(scope="module")
def ranges() -> Ranges:
    return calibrate(MODEL, batches(images(32, seed=1)), data_digest="")


def test_the_figures_against_numpy(ranges: Ranges) -> None:
    """Of the input, which the range of min-max does not fit once it is halved."""
    (low, high) = ranges.ranges["image"]
    halved = replace(ranges, ranges={**ranges.ranges, "image": (low / 2, high / 2)})
    batch = images(12, seed=5)
    record = compare_domains(MODEL, halved, SCHEME, held_back=None, seen=batches(batch))
    layer = next(layer for layer in record.worst if layer.layer == "the input image")
    half_a_step = (high - low) / 255 / 4  # the zero point rounds the ends by as much
    bounds = [(low / 2 - side, high / 2 + side) for side in (2.2 * half_a_step, 0.0)]
    counts = [float(((batch < left) | (batch > right)).mean()) for left, right in bounds]
    assert layer.clipped[0] is None
    assert layer.clipped[1] is not None
    assert counts[0] <= layer.clipped[1] <= counts[1]
    assert counts[0] > 0.05
    spans = [max(float(each.max()), 0) - min(float(each.min()), 0) for each in batch]
    assert layer.used[1] == pytest.approx(float(np.mean(spans)) / ((high - low) / 2), rel=0.01)
    assert record.exceeded[0] == 0
    assert record.exceeded[1] >= 1


def test_one_strange_image_is_no_other_kind(ranges: Ranges) -> None:
    """Ranks do not grow with its size."""
    seen = images(32, seed=8)
    seen[3] *= 1000
    found = compare_domains(MODEL, ranges, SCHEME, held_back=batches(images(32, seed=7)), seen=batches(seen))
    assert not found.warns
    assert found.exceeded[1] >= found.exceeded[0]


def test_false_warnings_are_as_rare_as_promised(ranges: Ranges) -> None:
    """The p-values of sets of one kind are even: some of twelve are below a half, not all."""
    values = []
    for seed in range(12):
        held_back, seen = images(24, seed=1000 + seed), images(24, seed=2000 + seed)
        found = compare_domains(MODEL, ranges, SCHEME, held_back=batches(held_back), seen=batches(seen))
        assert found.p_value is not None
        assert not found.warns
        values.append(found.p_value)
    assert 1 <= sum(value <= 0.5 for value in values) <= 11


def test_few_images_are_not_judged(ranges: Ranges) -> None:
    few, many = images(FEWEST - 1, seed=3), images(16, seed=4) * 10
    for first, second in ((few, many), (many, few)):
        found = compare_domains(MODEL, ranges, SCHEME, held_back=batches(first), seen=batches(second))
        assert (found.p_value, found.differing) == (None, 0)
        assert "too few images" in found.sentence
    alone = compare_domains(MODEL, ranges, SCHEME, held_back=batches(few), seen=None)
    assert "no --eval images are given" in alone.sentence


def test_the_result_repeats_and_progress_is_reported(ranges: Ranges) -> None:
    heard: list[Progress] = []
    held_back, seen = batches(images(16, seed=3)), batches(images(16, seed=4) * 3)
    first = compare_domains(MODEL, ranges, SCHEME, held_back=held_back, seen=seen, on_progress=heard.append)
    assert first.warns
    assert first == compare_domains(MODEL, ranges, SCHEME, held_back=held_back, seen=seen)
    assert [progress.done for progress in heard] == list(range(1, 33))


def test_symmetric_integers_reach_as_far_on_both_sides(ranges: Ranges) -> None:
    scheme = Scheme(signed=True, symmetric=True)
    batch = batches(images(16, seed=3))
    record = compare_domains(MODEL, ranges, scheme, held_back=batch, seen=None)
    assert all(layer.clipped[0] == 0 for layer in record.worst if layer.layer == "the input image")
    assert record.layers == compare_domains(MODEL, ranges, SCHEME, held_back=batch, seen=None).layers
