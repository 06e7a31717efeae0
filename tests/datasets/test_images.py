"""Digests, samples, batches and overlaps of image sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xxdeploy.datasets import ImageSet, open_images, overlap
from xxdeploy.datasets.images import batch_that_fits
from xxdeploy.errors import UsageError
from xxdeploy.models.samples import shipped_folder
from xxdeploy.runtime.image.preprocess import Preprocess


def named(counts: dict[str, int], *, labels: bool = False) -> ImageSet:
    """Return a set of files that need not exist."""
    names = [(folder, f"{folder}/{number:03}.png") for folder, count in counts.items() for number in range(count)]
    order = sorted(counts)
    classes = tuple(order.index(folder) for folder, _ in names) if labels else None
    return ImageSet(Path("root"), tuple(Path("root") / name for _, name in names), classes)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    for index in range(5):
        (tmp_path / f"{index}.png").parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 4, 3), 40 * index, np.uint8)).save(tmp_path / f"{index}.png")
    return open_images(tmp_path)


# --- digest -----------------------------------------------------------------------------------------------------------


def test_the_digest_is_that_of_names_and_contents(images: ImageSet) -> None:
    digest = images.digest
    assert len(digest) == 64
    assert open_images(images.root).digest == digest
    moved = images.root.rename(images.root.with_name("moved"))
    assert open_images(moved).digest == digest
    assert open_images(moved).sample(4).digest != digest
    (moved / "0.png").write_bytes((moved / "0.png").read_bytes() + b"x")
    changed = open_images(moved).digest
    assert changed != digest
    (moved / "0.png").rename(moved / "00.png")
    assert open_images(moved).digest not in (digest, changed)


def test_the_digest_needs_every_file(images: ImageSet) -> None:
    images.files[2].unlink()
    with pytest.raises(UsageError, match=r"2\.png") as caught:
        _ = images.digest
    assert caught.value.code == "image-unreadable"


# --- sample -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 30), min_size=1),
    st.integers(0, 2**32),
    st.booleans(),
    st.data(),
)
def test_a_sample_is_proportional_and_in_order(
    counts: dict[str, int], seed: int, labels: bool, data: st.DataObject
) -> None:
    whole = named(counts, labels=labels)
    size = data.draw(st.integers(1, len(whole)))
    part = whole.sample(size, seed)
    assert len(part) == len(set(part.files)) == size
    positions = [whole.files.index(path) for path in part.files]
    assert positions == sorted(positions)
    if labels:
        assert whole.labels is not None
        assert part.labels == tuple(whole.labels[position] for position in positions)
    got = Counter(path.parent.name for path in part.files)
    for folder, count in counts.items():
        assert abs(got[folder] - size * count / len(whole)) < 1 + len(counts) / 2
    if size > 1:
        assert set(whole.sample(size - 1, seed).files) < set(part.files)


def test_equal_classes_get_equal_shares() -> None:
    part = named({"a": 50, "b": 50, "c": 50}, labels=True).sample(31, 5)
    assert part.labels is not None
    assert sorted(Counter(part.labels).values()) == [10, 10, 11]


def test_a_sample_depends_on_names_and_seed_alone() -> None:
    whole = named({"a": 40, "b": 40})
    chosen = [path.name for path in whole.sample(6, 1).files]
    # Written down once: another machine, library version or year must choose the same.
    assert chosen == ["031.png", "033.png", "037.png", "004.png", "016.png", "022.png"]
    assert whole.sample(6, 2).files != whole.sample(6, 1).files
    assert whole.sample(None, 3) is whole


@pytest.mark.parametrize(("count", "code"), [(0, "bad-samples"), (-3, "bad-samples"), (11, "too-few-images")])
def test_a_sample_that_cannot_be(count: int, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        named({"a": 10}).sample(count)
    assert caught.value.code == code


def test_a_set_is_never_empty_or_half_labeled() -> None:
    with pytest.raises(UsageError):
        ImageSet(Path("root"), ())
    with pytest.raises(ValueError, match="1 labels for 2 files"):
        ImageSet(Path("root"), (Path("root/a.png"), Path("root/b.png")), (0,))


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_are_those_of_the_preprocessing(images: ImageSet) -> None:
    preprocess = Preprocess(8, 8)
    batches = list(images.batches(preprocess, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert np.array_equal(np.concatenate(batches), preprocess.batch(images.files))


def test_batches_are_read_as_they_are_asked_for(images: ImageSet) -> None:
    images.files[-1].write_bytes(b"broken")
    batches = images.batches(Preprocess(8, 8), 2)
    assert len(next(batches)) == 2
    assert len(next(batches)) == 2
    with pytest.raises(UsageError, match=r"4\.png"):
        next(batches)


def test_a_batch_holds_something(images: ImageSet) -> None:
    with pytest.raises(UsageError) as caught:
        next(images.batches(Preprocess(8, 8), 0))
    assert caught.value.code == "bad-batch-size"


# --- overlap ----------------------------------------------------------------------------------------------------------


def test_shared_images_are_found_by_content(images: ImageSet, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "renamed.jpg").write_bytes(images.files[3].read_bytes())
    (other / "new.png").write_bytes(bytes(images.files[3].stat().st_size))  # the same size, other bytes
    found = overlap(open_images(images.root).sample(None), open_images(other))
    assert [(Path(first).name, Path(second).name) for first, second in found if Path(first).parent == images.root] == [
        ("3.png", "renamed.jpg")
    ]


def test_the_sample_sets_are_disjoint() -> None:
    folder = shipped_folder() / "sample"
    calibration, evaluation = open_images(folder / "calibration"), open_images(folder / "evaluation")
    assert (len(calibration), len(evaluation)) == (200, 500)
    assert overlap(calibration, evaluation) == ()
    assert Counter(path.parent.name for path in evaluation.files) == dict.fromkeys(
        {path.parent.name for path in calibration.files}, 50
    )
    pixels = [Image.open(path).tobytes() for path in (*calibration.files, *evaluation.files)]
    assert len(set(pixels)) == len(pixels)


def test_what_is_left_of_a_set_shares_no_content_with_the_part_that_was_taken(images: ImageSet) -> None:
    (images.root / "copy.png").write_bytes(images.files[0].read_bytes())
    whole = open_images(images.root)
    taken = ImageSet(images.root, images.files[:2])
    rest = whole.apart_from(taken)
    assert rest is not None
    assert rest.names == ("2.png", "3.png", "4.png")
    assert whole.apart_from(whole) is None
    assert rest.apart_from(taken) == rest


def test_what_is_left_keeps_its_labels(images: ImageSet) -> None:
    labeled = ImageSet(images.root, images.files, (4, 3, 2, 1, 0))
    rest = labeled.apart_from(ImageSet(images.root, images.files[1:3]))
    assert rest is not None
    assert rest.labels == (4, 1, 0)


@pytest.mark.parametrize(
    ("most", "size", "batch"),
    [(8, 32, 8), (8, 224, 8), (8, 299, 4), (8, 331, 3), (16, 224, 16), (16, 331, 7), (8, 1024, 2)],
)
def test_larger_images_make_smaller_batches(most: int, size: int, batch: int) -> None:
    assert batch_that_fits(most, size * size) == batch


def test_a_runner_that_takes_pixels_gets_them(images: ImageSet) -> None:
    class Runner:
        takes_pixels = True

    preprocess = Preprocess(28, 28)
    (pixels,) = images.batches_for(Runner(), preprocess, 32)
    (scaled,) = images.batches_for(object(), preprocess, 32)
    assert (pixels.dtype.name, pixels.shape) == ("uint8", (len(images), 28, 28, 3))
    np.testing.assert_array_equal(preprocess.normalize(pixels), scaled)
