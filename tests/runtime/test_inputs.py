"""What a model reads: pictures, arrays and several of them become rows, and the mistakes of callers get names."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.sizing import Sizing
from xxdeploy.runtime.inputs import (
    ArrayInput,
    SeveralInputs,
    area_of,
    changed_pictures,
    described,
    described_batch,
    in_words,
    is_one,
    one_picture,
    pack,
    parts_of,
    random_samples,
    shape_of,
    unpack,
    with_spans,
)

LEFT, META = Preprocess(4, 6, 3, "tf"), ArrayInput((2,))
BOTH = SeveralInputs((("left", LEFT), ("meta", META)))
PICTURE = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)


def test_a_row_holds_each_input_as_if_it_were_alone() -> None:
    samples = [{"left": PICTURE, "meta": [1, 2.5]}, (Image.fromarray(PICTURE[::-1]), np.array([3, 4]))]
    batch = BOTH.batch(samples)
    left, meta = unpack(batch, BOTH.shapes)
    assert batch.shape == (2, 74)
    assert np.array_equal(left, LEFT.batch([PICTURE, PICTURE[::-1]]))
    assert meta.tolist() == [[1, 2.5], [3, 4]]


def test_decoded_pixels_come_back_as_bytes() -> None:
    decoded = BOTH.pixels([{"left": PICTURE, "meta": (0.25, -8)}])
    picture, numbers = BOTH.apart(decoded)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[0], PICTURE)
    assert numbers.tolist() == [[0.25, -8]]


def test_fractions_of_a_resized_picture_are_kept() -> None:
    smooth = changed_pictures(BOTH, sizing=Sizing(resample="bilinear"))
    assert isinstance(smooth, SeveralInputs)
    picture = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    alone = Preprocess(4, 6, 3, "tf", Sizing(resample="bilinear")).batch([picture])
    assert np.array_equal(unpack(smooth.batch([(picture, [1, 2])]), smooth.shapes)[0], alone)


@pytest.mark.parametrize(
    ("sample", "code", "words"),
    [
        ({"left": PICTURE}, "wrong-inputs", "it lacks meta"),
        ({"left": PICTURE, "meta": [1, 2], "age": 3}, "wrong-inputs", "no input age"),
        (PICTURE, "wrong-inputs", "2 inputs, left, meta"),
        ((PICTURE,), "wrong-inputs", "a tuple of 1"),
        ((PICTURE, [1, 2, 3]), "array-shape", "input meta: an array has the shape (3,)"),
        ((PICTURE, [1, float("nan")]), "array-values", "NaN"),
        ((PICTURE, [1, 1e39]), "array-values", "infinity"),
        ((PICTURE, [[1], [1, 2]]), "array-values", "no array of numbers"),
        ((PICTURE, ["a", "b"]), "array-values", "no array of numbers"),
        ((PICTURE, [1, 2j]), "array-values", "no array of numbers"),
        (("none.png", [1, 2]), "image-not-found", "input left:"),
    ],
)
def test_a_wrong_sample_has_a_name(sample: Any, code: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        BOTH.batch([sample])
    assert caught.value.code == code
    assert words.replace("no array", "not an array") in caught.value.message


def test_one_number_needs_no_list() -> None:
    assert ArrayInput((1,)).batch([3, np.float64(4), [5]]).tolist() == [[3], [4], [5]]
    assert ArrayInput(()).batch([3]).tolist() == [3]


def test_no_samples() -> None:
    for form in (BOTH, META):
        with pytest.raises(UsageError, match="no sample") as caught:
            form.batch([])
        assert caught.value.code == "no-images"


@pytest.mark.parametrize("batch", [np.zeros((2, 73), np.float32), np.zeros((2, 74)), np.zeros((74,), np.float32)])
def test_a_batch_of_another_shape(batch: Any) -> None:
    with pytest.raises(UsageError) as caught:
        BOTH.normalize(batch)
    assert caught.value.code == "batch-shape"
    with pytest.raises(UsageError):
        META.normalize(batch)


def test_one_sample_or_a_list() -> None:
    assert is_one(LEFT, PICTURE)
    assert not is_one(LEFT, (PICTURE, PICTURE))
    assert is_one(BOTH, (PICTURE, [1, 2]))
    assert is_one(BOTH, {})
    assert not is_one(BOTH, [{}])
    assert is_one(META, np.zeros(2))
    assert not is_one(META, [np.zeros(2)])


@pytest.mark.parametrize("array", [META, ArrayInput((7, 7, 512), (-1.5, 2.0)), ArrayInput(())])
def test_json_of_an_array(array: ArrayInput) -> None:
    assert ArrayInput.from_json(array.to_json()) == array


@pytest.mark.parametrize(
    "value",
    [
        {"shape": [2]},
        {"shape": [0], "range": None},
        {"shape": [2.0], "range": None},
        {"shape": [1 << 20, 1 << 20], "range": None},
        {"shape": [1] * 9, "range": None},
        {"shape": [2], "range": [1]},
        {"shape": [2], "range": [2, 1]},
        {"shape": [2], "range": [0, float("inf")]},
        {"shape": [2], "range": [0, "1"]},
        {"shape": 2, "range": None},
        [],
    ],
)
def test_json_that_is_no_array(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        ArrayInput.from_json(value)
    assert caught.value.code == "preprocess-invalid"


def test_impossible_groups() -> None:
    for parts in ((("left", LEFT),), (("a", LEFT), ("A", META))):
        with pytest.raises(UsageError) as caught:
            SeveralInputs(parts)
        assert caught.value.code == "preprocess-invalid"


def test_spans_and_words() -> None:
    known = with_spans(BOTH, (None, (-1, 2)))
    assert parts_of(known)[1][1] == ArrayInput((2,), (-1, 2))
    assert described(parts_of(known)[1][1]) == "array (2,), -1 to 2"
    assert described(LEFT).startswith("4 x 6 x 3, tf")
    assert described(META) == "array (2,), numbers"
    assert described_batch(LEFT).startswith("(batch, 4, 6, 3), tf")
    assert described_batch(ArrayInput(())) == "(batch), numbers"
    assert in_words(LEFT).startswith("RGB picture, 4 x 6")
    assert in_words(META) == "array (2,), numbers"
    assert with_spans(META, ((0, 1),)) == ArrayInput((2,), (0, 1))
    assert [shape_of(part) for _, part in parts_of(BOTH)] == [(4, 6, 3), (2,)]
    assert (area_of(BOTH), area_of(LEFT), area_of(ArrayInput((7, 5, 512)))) == (25, 24, 35)


def test_random_samples_fit_their_form() -> None:
    known = with_spans(BOTH, (None, (5, 6)))
    samples = random_samples(known, 3)
    numbers = unpack(known.pixels(samples), BOTH.shapes)[1]
    assert numbers.min() >= 5
    assert numbers.max() <= 6
    assert len(random_samples(LEFT, 2)) == 2


def test_rows_of_pixels_are_exact() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert np.array_equal(unpack(pack([every, every]), [(16, 16, 1)] * 2)[1].astype(np.uint8), every)


def test_a_step_for_one_picture_refuses_others() -> None:
    assert one_picture(LEFT, "a") is LEFT
    for form, words in ((BOTH, "the inputs left, meta"), (META, "an array")):
        with pytest.raises(UsageError, match=words) as caught:
            one_picture(form, "a")
        assert caught.value.code == "not-one-picture"
