"""Class names, and which class a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.datasets import Labels, imagenet_labels, load_labels
from xxdeploy.errors import UsageError


def test_imagenet_is_in_keras_order() -> None:
    labels = imagenet_labels()
    assert labels.ids is not None
    assert len(labels) == len(set(labels.ids)) == 1000
    assert list(labels.ids) == sorted(labels.ids)
    # Three of Keras' own imagenet_class_index.json.
    assert [(labels.ids[i], labels.names[i].partition(",")[0]) for i in (0, 281, 999)] == [
        ("n01440764", "tench"),
        ("n02123045", "tabby"),
        ("n15075141", "toilet tissue"),
    ]


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ("n01440764", 0),
        ("tench", 0),
        ("tench, Tinca tinca", 0),
        ("great_white_shark", 2),
        ("Great-White  Shark", 2),
        ("crane", None),  # a bird and a machine
        ("maillot", None),  # twice, too
        ("Tinca tinca", None),
        ("", None),
        ("n00000000", None),
    ],
)
def test_what_a_name_means(given: str, index: int | None) -> None:
    assert imagenet_labels().indices([given]) == [index]


def test_a_file_of_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\r\nGroßer Hund\r\n\r\n".encode())
    assert load_labels(path) == Labels(("cat", "Großer Hund"))


def test_a_file_with_ids(tmp_path: Path) -> None:
    path = tmp_path / "synsets.txt"
    path.write_text("n00000002 a cat\nn00000001 a dog\n", encoding="utf-8")
    assert load_labels(path) == Labels(("a cat", "a dog"), ("n00000002", "n00000001"))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "labels-empty"),
        (b"\n \n", "labels-empty"),
        (b"a\n\nb\n", "bad-labels"),
        (b"\xff\xfe\x00a", "bad-labels"),
        (b"n00000001 a\nn00000001 b\n", "bad-labels"),
    ],
)
def test_a_file_that_is_no_list_of_labels(content: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_labels(path)
    assert caught.value.code == code


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.txt", tmp_path):
        with pytest.raises(UsageError) as caught:
            load_labels(path)
        assert caught.value.code == "no-labels-file"
        assert str(path) in caught.value.message


def test_ids_that_are_not_as_many() -> None:
    with pytest.raises(UsageError, match="ids"):
        Labels(("a", "b"), ("n00000001",))
