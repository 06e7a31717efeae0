"""Answers for one picture: its best classes, another picture, or a mask."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.errors import UsageError
from xxdeploy.runtime.answers import (
    FEW,
    Prediction,
    classes_of,
    palette,
    picture_from,
    pixels_of,
    reading_from,
    top_predictions,
)

LABELS = ("a", "b", "c", "d")


def test_best_first_and_ties_by_index() -> None:
    row = np.array([0.2, 0.3, 0.2, 0.3], np.float32)
    assert [p.index for p in top_predictions(row, LABELS, 4)] == [1, 3, 0, 2]
    assert top_predictions(row, LABELS, 1) == (Prediction(1, "b", float(np.float32(0.3))),)
    assert len(top_predictions(row, LABELS, 99)) == 4


@pytest.mark.parametrize("classes", [5, FEW, FEW + 1, 1000])
def test_ties_keep_their_order_with_few_and_with_many_classes(classes: int) -> None:
    row = (np.random.default_rng(classes).integers(0, 4, classes) / 4).astype(np.float32)
    expected = np.argsort(-row, kind="stable")[:5].tolist()
    assert [
        prediction.index for prediction in top_predictions(row, [str(index) for index in range(classes)], 5)
    ] == expected


@pytest.mark.parametrize("top", [0, -1])
def test_top_below_one(top: int) -> None:
    with pytest.raises(UsageError) as caught:
        top_predictions(np.zeros(4, np.float32), LABELS, top)
    assert caught.value.code == "top-invalid"


def test_another_number_of_labels_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="labels"):
        top_predictions(np.zeros(3, np.float32), LABELS, 1)


@pytest.mark.parametrize(
    ("output_range", "black", "middle", "white"),
    [((0.0, 1.0), 0.0, 0.5, 1.0), ((-1.0, 1.0), -1.0, 0.0, 1.0), ((0.0, 255.0), 0.0, 127.6, 255.0)],
)
def test_the_range_says_what_is_black_and_white(
    output_range: tuple[float, float], black: float, middle: float, white: float
) -> None:
    output = np.array([black - 9, black, middle, white, white + 9], np.float32)
    assert pixels_of(output, output_range).tolist() == [0, 0, 128, 255, 255]


def test_each_byte_survives() -> None:
    picture = np.arange(256, dtype=np.uint8)
    assert np.array_equal(pixels_of((picture / np.float32(127.5) - 1).astype(np.float32), (-1.0, 1.0)), picture)


def test_a_pixel_has_the_class_of_its_largest_score() -> None:
    scores = np.array([[[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], [[0.1, 0.1, 0.8], [1, 0, 0]]], np.float32)
    assert classes_of(scores).tolist() == [[1, 0], [2, 0]]
    assert classes_of(np.array([[[0.5], [0.51]]], np.float32)).tolist() == [[0, 1]]


def test_the_colors_are_those_of_pascal_voc() -> None:
    colors = np.frombuffer(palette(), np.uint8).reshape(256, 3).tolist()
    assert colors[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colors[15] == [192, 128, 128]  # a person
    assert len(set(map(tuple, colors))) == 256


def test_a_mask_is_a_palette_picture() -> None:
    mask = picture_from(np.eye(4, dtype=np.float32)[[[0, 1], [2, 3]]], None)
    assert mask.mode == "P"
    assert np.asarray(mask).tolist() == [[0, 1], [2, 3]]
    assert mask.convert("RGB").getpixel((1, 1)) == (128, 128, 0)


def test_equal_steps_in_a_row_are_one_character_unless_a_blank_is_between_them() -> None:
    best = [3, 0, 0, 3, 0, 1, 1, 3, 2]
    steps = np.full((len(best), 4), 0.1, np.float32)
    steps[np.arange(len(best)), best] = 0.7
    reading = reading_from(steps, ("a", "b", "ch", "<blank>"), 3)
    assert reading.text == "aabch"
    assert reading.probability == pytest.approx(0.7 ** len(best))
    assert reading_from(steps[:1], ("a", "b", "c", "<blank>"), 3).text == ""
    assert (
        reading_from(np.full((2, 3), 1 / 3, np.float32), ("<blank>", "b", "c"), 0).text == ""
    )  # the lowest of equal ones


def test_a_blank_may_be_the_first_class() -> None:
    steps = np.eye(3, dtype=np.float32)[[1, 1, 0, 1, 2]]
    assert reading_from(steps, ("<blank>", "x", " "), 0).text == "xx "
