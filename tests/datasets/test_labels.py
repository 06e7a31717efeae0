"""Class names, and which class a name means."""

from __future__ import annotations

import pytest

from xxdeploy.datasets import Labels, imagenet_labels
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


@pytest.mark.parametrize(
    ("names", "given", "index"),
    [
        (("a", "A"), "A", 1),
        (("a", "A"), "a", 0),
        (("Pepper", "Pepper, bell"), "Pepper", 0),  # without ids, the comma is part of a name
        (("stop sign", "stop_sign"), "stop_sign", 1),
        (("stop sign", "stop_sign"), "Stop Sign", None),
        (("tea", "caf\u00e9"), "cafe\u0301", 1),
        (("caf\u00e9", "Caf\u00e9"), "Cafe\u0301", 1),
        (("Stra\u00dfe", "x"), "STRASSE", 0),
        (("0", "14"), "00014", 1),
        (("0", "14"), "00000", 0),
        (("zero", "one"), "1 one", 1),
        (("zero", "one"), "0 one", None),
        (("cat", "cat"), "cat", None),
    ],
)
def test_the_exact_name_comes_first(names: tuple[str, ...], given: str, index: int | None) -> None:
    assert Labels(names).indices([given]) == [index]


def test_several_classes_of_one_name() -> None:
    (match,) = Labels(("Cat", "cat", "dog")).matches(["CAT"])
    assert (match.classes, match.index, match.is_folded) == ((0, 1), None, True)


def test_ids_that_are_not_as_many() -> None:
    with pytest.raises(UsageError, match="ids"):
        Labels(("a", "b"), ("n00000001",))
