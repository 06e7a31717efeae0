"""Arrays, data sets and iterables as single pictures with their labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.datasets import given
from xxdeploy.datasets.given import Wanted, pictures_of
from xxdeploy.errors import UsageError

EVAL = Wanted("eval", labeled=True)
X = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
Y = np.array([0, 1, 2, 0, 1, 2])


class Batches:
    """A ``keras.utils.PyDataset`` as ``flow_from_directory`` returns it: it has a length, and its iterator no end."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]

    def __iter__(self) -> Iterator[Any]:
        return (self[index % 3] for index in itertools.count())


def one_by_one() -> Iterator[tuple[Any, int]]:
    yield from zip(X, Y.tolist(), strict=True)


@pytest.mark.parametrize(
    "pictures",
    [
        (X, Y),
        (X, Y[:, None]),
        (X, Y.tolist()),
        (X, np.eye(3)[Y]),
        [(X[:4], Y[:4]), (X[4:], Y[4:])],
        Batches(),
        one_by_one(),
        [(Image.fromarray(picture), label) for picture, label in zip(X, Y, strict=True)],
        [(X, Y, np.ones(6))],  # with weights of the samples
    ],
    ids=["pair", "column", "list", "one-hot", "batches", "PyDataset", "generator", "Pillow", "weights"],
)
def test_every_form_gives_the_same_pictures_and_labels(pictures: Any) -> None:
    found = list(pictures_of(pictures, EVAL))
    assert [label for _, label in found] == Y.tolist()
    assert np.array_equal(np.stack([np.asarray(picture) for picture, _ in found]), X)


def test_a_data_set_of_tensorflow() -> None:
    import tensorflow as tf

    found = list(pictures_of(tf.data.Dataset.from_tensor_slices((X, Y)).batch(4), EVAL))
    assert [label for _, label in found] == Y.tolist()
    names = tf.data.Dataset.from_tensor_slices((X, ["a", "b", "c", "a", "b", "c"]))
    assert [label for _, label in pictures_of(names, EVAL)] == ["a", "b", "c", "a", "b", "c"]
    with pytest.raises(UsageError, match="never ends") as caught:
        list(pictures_of(names.repeat(), EVAL))
    assert caught.value.code == "endless-pictures"
    assert len(list(pictures_of(names.repeat().take(9), EVAL))) == 9  # the hint


def test_gray_pictures_need_no_channel_axis() -> None:
    found = list(pictures_of((X[..., 0], Y), EVAL))
    assert {picture.shape for picture, _ in found if isinstance(picture, np.ndarray)} == {(4, 5, 1)}
    assert len(found) == 6


def test_files_stay_files(tmp_path: Path) -> None:
    assert list(pictures_of([(tmp_path / "a.png", 1), (str(tmp_path / "b.png"), "cat")], EVAL)) == [
        (tmp_path / "a.png", 1),
        (tmp_path / "b.png", "cat"),
    ]


@pytest.mark.parametrize("pictures", [(X, X[::-1]), [(X[:2], X[:2]), (X[2:], X[2:])], zip(X, Y / 7, strict=True)])
def test_targets_that_are_no_classes_are_left_out(pictures: Any) -> None:
    """A data set to train on has clean pictures or numbers with each picture; the measure is the float model."""
    found = list(pictures_of(pictures, Wanted("eval", has_classes=False)))
    assert [label for _, label in found] == [None] * 6
    assert np.array_equal(np.stack([np.asarray(picture) for picture, _ in found]), X)


def test_a_generator_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MOST_UNSIZED", 20)
    endless = ((X[0], 1) for _ in itertools.count())
    with pytest.raises(UsageError, match="more than 20 pictures, or never ends") as caught:
        list(pictures_of(endless, EVAL))
    assert caught.value.code == "endless-pictures"
    assert len(list(pictures_of(itertools.islice(endless, 20), EVAL))) == 20  # the hint
    assert len(list(pictures_of([X, X, X, X], Wanted("calibration")))) == 24  # a length is no riddle


def test_one_hot_vectors_have_the_length_of_the_models_classes() -> None:
    three = Wanted("eval", labeled=True, classes=3)
    assert [label for _, label in pictures_of((X, np.eye(3)[Y]), three)] == Y.tolist()
    with pytest.raises(UsageError, match="one-hot vectors of 4 classes, and the model has 3") as caught:
        list(pictures_of((X, np.eye(4)[Y]), three))
    assert caught.value.code == "picture-label"


@pytest.mark.parametrize(
    ("pictures", "code", "said"),
    [
        (3, "picture-type", "eval is a int"),
        ({"x": X}, "picture-type", "eval is a dict"),
        (X[0], "picture-type", r"shape \(4, 5, 3\)"),
        (np.moveaxis(X, -1, 1), "picture-type", "moveaxis"),
        (np.concatenate([X, X[..., :1]], axis=-1), "picture-type", "alpha"),
        ([[1, 2]], "picture-type", "for a picture"),
        ((X, Y[:3]), "picture-label", "6 pictures and 3 labels"),
        ([(X, Y[:3])], "picture-label", "for 6 pictures"),
        ((X, Y - 1), "picture-label", "-1 is no index"),
        ((X, Y + 0.5), "picture-label", "0.5 is no index"),
        ((X, np.eye(3)[Y] * 0.9 + 0.033), "picture-label", "not one-hot"),
        ([(X[0], "")], "picture-label", "empty"),
    ],
)
def test_what_is_no_picture_or_label_is_refused(pictures: Any, code: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        list(pictures_of(pictures, EVAL))
    assert caught.value.code == code
