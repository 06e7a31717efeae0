from __future__ import annotations

import json

import pytest

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import Accuracy, ModelFile, ModelOutput, Ranges

RANGES = Ranges("minmax", "model", "data", 7, {"x": (-0.1, 1 / 3), "y": (0.0, 6.0)})


def test_top5_is_told_of_more_than_ten_classes() -> None:
    accuracy = Accuracy("keras", 0.5, 0.9, (0, 1))
    assert [accuracy.told_top5(classes) for classes in (10, 11, None)] == [None, 0.9, 0.9]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        RANGES.to_json().replace("0.0", "NaN"),
        RANGES.to_json().replace('"images": 7', '"images": "7"'),
        RANGES.to_json().replace("6.0", "-6.0"),
        RANGES.to_json().replace("6.0", "9" * 400),  # no float holds it; found by scripts/fuzz_atheris.py
        json.dumps({"method": "minmax"}),
        json.dumps({**json.loads(RANGES.to_json()), "extra": 1}),
        json.dumps({**json.loads(RANGES.to_json()), "ranges": {"x": 1}}),
    ],
)
def test_damaged_ranges(damage: str) -> None:
    with pytest.raises(ConversionError) as caught:
        Ranges.from_json(damage)
    assert caught.value.code in ("damaged-ranges", "non-finite-range")
    assert Ranges.from_json(RANGES.to_json()) == RANGES


def test_a_range_holds_something() -> None:
    with pytest.raises(ValueError, match="is empty"):
        Ranges("minmax", "model", "data", 7, {"x": (2.0, 1.0)})


def test_agreement_needs_the_same_images() -> None:
    keras, int8 = Accuracy("keras", None, None, (1, 2, 3, 4)), Accuracy("onnx-int8", None, None, (1, 2, 3, 5))
    assert (int8.images, int8.agreement(keras)) == (4, 0.75)
    with pytest.raises(ValueError, match="the same images"):
        int8.agreement(Accuracy("keras", None, None, (1,)))


def test_what_a_scheme_and_an_output_are() -> None:
    model = OnnxModel(b"onnx")
    files = [ModelFile("x", model, scheme, (), model) for scheme in ("float32", "float16", "static-w8c-a8")]
    assert [file.precision for file in files] == ["fp32", "fp16", "int8"]
    assert [ModelOutput("y", classes).task for classes in (10, None)] == ["classification", "features"]
