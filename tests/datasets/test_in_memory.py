"""Pictures of a program as a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.datasets import Labels, infer_labels, open_images, overlap
from xxdeploy.datasets.given import Wanted
from xxdeploy.datasets.in_memory import Written, write_pictures
from xxdeploy.errors import UsageError

X = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
Y = np.arange(40) % 4
CALIBRATION, EVAL = Wanted("calibration"), Wanted("eval", labeled=True)


def written(folder: Path, pictures: Any, wanted: Wanted = CALIBRATION) -> Written:
    return write_pictures(pictures, folder / "set", wanted, lambda _: None)


def pixels(folder: Path) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(Image.open(file)) for file in open_images(folder).files])


def test_pictures_and_labels_are_those_that_were_given(tmp_path: Path) -> None:
    found = written(tmp_path, (X, Y), EVAL)
    assert (found.kept, found.seen, found.kind) == (40, 40, "6 x 5 x 3 uint8")
    assert found.notes == (
        "eval: all pictures are 6 x 5; if the model takes that size, they cannot show that --resize and --resample are "
        "those of the training",
    )
    assert np.array_equal(pixels(found.folder), X)
    labels, _ = infer_labels(found.folder, 4)
    assert labels == Labels(("0", "1", "2", "3"))
    assert open_images(found.folder, labels=labels, require_labels=True).labels == tuple(Y.tolist())


def test_gray_pictures(tmp_path: Path) -> None:
    assert np.array_equal(pixels(written(tmp_path, X[..., 0]).folder), X[..., 0])


@pytest.mark.parametrize(
    ("pictures", "wanted"),
    [
        (X.astype(np.float32), CALIBRATION),
        (X.astype(np.int64), CALIBRATION),
        (X / 255, Wanted("calibration", takes_unit=True)),
        (X.astype(np.float32) / np.float32(255), Wanted("calibration", takes_unit=True)),
    ],
)
def test_each_range_gives_the_same_bytes(pictures: Any, wanted: Wanted, tmp_path: Path) -> None:
    """So the digest and the check for overlap do not depend on the type of an array."""
    folder = written(tmp_path / "a", pictures, wanted).folder
    same = written(tmp_path / "b", X).folder
    assert open_images(folder).digest == open_images(same).digest
    assert len(overlap(open_images(folder), open_images(same))) == 40


@pytest.mark.parametrize(
    ("pictures", "said", "hint"),
    [
        (X / 255, "the model does not take pixels of 0..1", "multiply them by 255"),
        (X / 127.5 - 1, "scaled already", "before preprocess_input"),
        (X.astype(np.uint16) * 257, "to 6.554e\\+04", "integers of 0..255"),
        (np.where(X > 127, np.nan, 3.0), "NaN", "floats of 0..255"),
        (np.minimum(X, 1), "only the values 0 and 1", "multiply them by 255"),
        (X > 127, "only the values 0 and 1", "multiply them by 255"),
        (X.astype(np.complex64), "complex64", "integers of 0..255"),
    ],
)
def test_another_range_is_an_error_that_names_it(pictures: Any, said: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        written(tmp_path, pictures)
    assert caught.value.code == "picture-range"
    assert hint in caught.value.hint


def test_a_range_that_changes_later_is_an_error(tmp_path: Path) -> None:
    late = np.concatenate([X[:35] / 255, X[35:] * 1.0])
    with pytest.raises(UsageError, match=r"the first ones are of 0\.\.1"):
        written(tmp_path, late, Wanted("calibration", takes_unit=True))


def test_rounded_floats_are_told(tmp_path: Path) -> None:
    found = written(tmp_path, X * 0.7)
    assert found.notes == ("calibration: floats were rounded to whole numbers of 0..255, as pictures have them",)
    assert np.abs(pixels(found.folder) - X * 0.7).max() <= 0.5 + 1e-4


def test_a_part_is_drawn_by_the_seed_alone(tmp_path: Path) -> None:
    def drawn(name: str, pictures: Any, seed: int) -> list[str]:
        found = written(tmp_path / name, pictures, Wanted("calibration", most=10, seed=seed))
        assert (found.kept, found.seen) == (10, 40)
        assert found.notes == (f"calibration: 10 of 40 pictures were drawn (seed {seed})",)
        return [file.name for file in open_images(found.folder).files]

    assert drawn("a", X, 0) == drawn("b", iter(X), 0) == drawn("c", [X[:7], X[7:]], 0)
    assert drawn("d", X, 1) != drawn("e", X, 0)


def test_an_index_is_not_taken_for_the_name_of_another_class(tmp_path: Path) -> None:
    names = Labels(("3", "2", "1", "0"))
    folder = written(tmp_path, (X, Y), EVAL).folder
    assert open_images(folder, labels=names, require_labels=True).labels == tuple(Y.tolist())


def test_names_of_classes(tmp_path: Path) -> None:
    kinds = ["cat", "dog, hound", "cow", "owl"]
    folder = written(tmp_path, (X, [kinds[i] for i in Y]), EVAL).folder
    labels = Labels(tuple(kinds))
    assert open_images(folder, labels=labels, require_labels=True).labels == tuple(Y.tolist())


@pytest.mark.parametrize(
    ("pictures", "code"),
    [
        ([], "empty-folder"),
        (X, "picture-label"),
        ([(X[0], 1), (X[1], "cat")], "picture-label"),
        ([(Path("absent.png"), 1)], "image-unreadable"),
    ],
)
def test_what_cannot_be_an_evaluation(pictures: Any, code: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        written(tmp_path, pictures, EVAL)
    assert caught.value.code == code


def test_a_label_of_no_class(tmp_path: Path) -> None:
    """Four labels beyond four classes are not taken for the names of the classes."""
    folder = written(tmp_path, (X, Y + 1), EVAL).folder
    for ask in (
        lambda: infer_labels(folder, 4),
        lambda: open_images(folder, labels=Labels(tuple("abcd")), require_labels=True),
    ):
        with pytest.raises(UsageError, match="set: 4 is not the index of one of the 4 classes") as caught:
            ask()
        assert caught.value.code == "bad-labels-csv"
    assert infer_labels(folder, 5)[0] == Labels(tuple("01234"))


def test_files_are_copied_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(X[0]).save(tmp_path / "photo.PNG")
    found = written(tmp_path, [(tmp_path / "photo.PNG", 0)], EVAL)
    assert (found.folder / "000000.png").read_bytes() == (tmp_path / "photo.PNG").read_bytes()
    assert found.kind == "files"
