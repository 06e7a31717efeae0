"""Pipelines have the words of the command line, and the options that turn one into another."""

from __future__ import annotations

import pytest

from xxdeploy.runtime.image.preprocess import CUSTOM, MODES, Preprocess
from xxdeploy.runtime.image.scaling import NAMED, Scaling, named_scaling
from xxdeploy.runtime.image.sizing import DEFAULT_SIZING, Sizing
from xxdeploy.verify.pipelines import (
    FILE,
    Pipeline,
    few_sizings_from,
    filters_from,
    geometries_from,
    options_of,
    pipeline_of,
    scalings_from,
    sizings_from,
)

SIZE = (8, 8, 3)
START = Pipeline("tf", "rgb", DEFAULT_SIZING, "text")


@pytest.mark.parametrize("word", [*MODES, *NAMED])
def test_each_word_is_a_pipeline_and_back(word: str) -> None:
    mode, scaling = (word, None) if word in MODES else (CUSTOM, named_scaling(word, 3))
    preprocess = Preprocess(*SIZE, mode, Sizing("pad", "area"), scaling)
    pipeline = pipeline_of(preprocess, "text")
    assert pipeline.word == word
    assert pipeline.preprocess(SIZE) == preprocess


def test_a_scaling_of_a_file_keeps_its_numbers() -> None:
    own = Scaling(1.0, (7.0, 8.0, 9.0), (3.0, 3.0, 3.0), "bgr")
    preprocess = Preprocess(*SIZE, CUSTOM, DEFAULT_SIZING, own)
    pipeline = pipeline_of(preprocess, "text")
    assert (pipeline.scaling, pipeline.channels) == (FILE, "bgr")
    assert pipeline.preprocess(SIZE) == preprocess
    assert {each.scaling for each in scalings_from(pipeline)} == {"tf", "caffe", "torch", "none", "0..1", FILE}


def test_gray_pictures_have_no_order_of_channels() -> None:
    gray = pipeline_of(Preprocess(8, 8, 1), "text")
    assert {(each.scaling, each.channels) for each in scalings_from(gray)} == {
        ("tf", "gray"), ("none", "gray"), ("0..1", "gray"),
    }  # fmt: skip
    for each in scalings_from(gray):
        assert each.preprocess((8, 8, 1)).channels == 1


@pytest.mark.parametrize("others", [scalings_from, sizings_from, few_sizings_from, filters_from, geometries_from])
def test_all_candidates_are_valid_and_the_start_comes_first(others: object) -> None:
    for start in (START, Pipeline("caffe", "rgb", Sizing("fit", "nearest"), "text")):
        candidates = others(start)  # type: ignore[operator]
        assert candidates[0] == start
        assert len(set(candidates)) == len(candidates) > 3
        for each in candidates:
            assert each.preprocess(SIZE).height == 8


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        (START, ""),
        (Pipeline("0..1", "rgb", DEFAULT_SIZING, "text"), "--preprocess 0..1"),
        (Pipeline("tf", "bgr", DEFAULT_SIZING, "text"), "--preprocess tf-bgr"),
        (Pipeline("tf", "rgb", Sizing(resample="bilinear"), "text"), "--resample bilinear"),
        (Pipeline("tf", "rgb", Sizing("crop"), "text"), "--resize crop"),
        (Pipeline("tf", "rgb", Sizing("crop", crop_fraction=1.0), "text"), "--resize crop --crop-fraction 1"),
        (Pipeline("tf", "rgb", DEFAULT_SIZING, "numeric"), "--class-order numeric"),
    ],
)
def test_options_turn_one_pipeline_into_another(pipeline: Pipeline, words: str) -> None:
    orders = {"text": (), "numeric": ("--class-order", "numeric")}
    assert " ".join(options_of(pipeline, START, orders)) == words
