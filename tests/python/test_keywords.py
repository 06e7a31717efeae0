"""Each option of the command line is a keyword, and each keyword is an option."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unusual_options import options_with

import xxdeploy
from xxdeploy.errors import UsageError
from xxdeploy.exporter import ExportOptions
from xxdeploy.exporter.options import OPTIONS
from xxdeploy.python.keywords import KEYWORDS, OWN, in_python, options_from, reworded


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_each_option_is_reachable(name: str) -> None:
    expected = options_with(name)
    words = {option: word for word, option in KEYWORDS.items()}
    given = {words[option]: value for option, value in expected.given().items()}
    assert name.replace("-", "_") in {word.rstrip("_") for word in given}
    assert options_from(given) == expected


def test_the_signature_shows_every_option_with_its_default() -> None:
    shown = inspect.signature(xxdeploy.export).parameters
    assert set(shown) == {"model", *OWN, *KEYWORDS}
    assert {name: shown[name].default for name in KEYWORDS} == {name: one.default for name, one in KEYWORDS.items()}


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("max_dorp", "did you mean max_drop"),
        ("max-drop", "did you mean max_drop"),
        ("evaluation", "did you mean eval?"),
        ("Int8", "did you mean int8?"),
        ("zzz", "the options are weights, "),
    ],
)
def test_an_unknown_option_proposes_the_near_name(given: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no option '{given}'") as caught:
        options_from({given: 1})
    assert caught.value.code == "unknown-option"
    assert near in caught.value.hint


def test_usual_python_types_are_taken() -> None:
    found = options_from(
        {"int8": np.bool_(True), "samples": np.int64(7), "max_drop": 1, "calibration": "train", "eval": Path("val"),
         "custom_objects": ["a:B"], "seed": None}
    )  # fmt: skip
    assert found == ExportOptions.of(
        "int8", samples=7, max_drop=1.0, calibration=Path("train"), evaluation=Path("val"), custom_objects=("a:B",)
    )
    assert options_from({"labels": "~/names.txt"}).network.labels == Path.home() / "names.txt"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"int8": 1}, "int8 must be True or False, not int '1'"),
        ({"samples": True}, "samples must be a whole number, not bool"),
        ({"samples": 3.5}, "samples must be a whole number, not float"),
        ({"max_drop": "1"}, "max_drop must be a number, not str"),
        ({"labels": ""}, "labels must be a path"),
        ({"preprocess": 3}, "preprocess must be a text"),
        ({"custom_objects": {"A": int}}, "custom_objects must be a text, or several in a list"),
    ],
)
def test_another_type_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        options_from(given)
    assert caught.value.code == "option-type"


@pytest.mark.parametrize(
    ("line", "python"),
    [
        ("add --eval FOLDER, one subfolder a class", "add eval=FOLDER, one subfolder a class"),
        ("add --int8 or --fp16, or leave out --max-drop", "add int8=True or fp16=True, or leave out max_drop"),
        ("promise --min-agreement 98, which", "promise min_agreement=98, which"),
        ("--preprocess auto is for model files", "preprocess='auto' is for model files"),
        ("add --preprocess tf|caffe|torch|none|0..1|FILE", "add preprocess=tf|caffe|torch|none|0..1|FILE"),
        ("(if numbers, --task values)", "(if numbers, task='values')"),
        ("--resize crop cuts", "resize='crop' cuts"),
        ("--resample bilinear-antialias is Pillow's", "resample='bilinear-antialias' is Pillow's"),
        ("--preprocess tf is", "preprocess='tf' is"),
        ("--output-range=-1..1 or --output-range classes", "output_range='-1..1' or output_range='classes'"),
        ("--task is for model files", "task is for model files"),
        ("--json prints one document", "--json prints one document"),
    ],
)
def test_sentences_name_keywords(line: str, python: str) -> None:
    assert in_python(line) == python


def test_an_error_names_no_temporary_folder(tmp_path: Path) -> None:
    error = UsageError(f"{tmp_path}/eval/000001.ppm is in --calibration, too", hint="change --eval", code="overlap")
    reworded(error, tmp_path)
    assert str(error) == "eval/000001.ppm is in calibration, too\n hint: change eval [overlap]"
