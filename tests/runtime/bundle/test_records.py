"""Inputs after the first: what a manifest of several inputs says, and each wrong value's error."""

import dataclasses
import json
from typing import Any

import pytest

from xxdeploy.errors import BundleError, UsageError
from xxdeploy.runtime.bundle.manifest import FileEntry, GoldenSpec, Manifest, Variant, schema_for
from xxdeploy.runtime.bundle.records import MoreInput, check_path, check_word
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput, SeveralInputs

SHA = "0" * 64


def pair() -> Manifest:
    """A picture and three numbers."""
    paths = ("golden/inputs.npy", "golden/inputs.2.npy", "golden/outputs.npy", "model.onnx")
    return Manifest(
        schema=4,
        name="pair",
        task="classification",
        input_name="photo",
        output_name="probabilities",
        preprocess=Preprocess(8, 8),
        classes=10,
        labels=None,
        variants=(Variant("fp32", "model.onnx", "fp32", "float32", "golden/outputs.npy"),),
        golden=GoldenSpec("golden/inputs.npy", 1e-4),
        files=tuple(FileEntry(path, SHA, 3) for path in paths),
        tools={},
        source={},
        evidence={},
        more_inputs=(MoreInput("meta", ArrayInput((3,), (-1.0, 2.0)), "golden/inputs.2.npy"),),
    )


def alone() -> Manifest:
    """Feature maps only."""
    return dataclasses.replace(pair(), preprocess=ArrayInput((7, 7, 16)), more_inputs=())


def test_several_inputs_survive_the_round_trip() -> None:
    manifest = Manifest.from_json(pair().to_json())
    assert manifest == pair()
    assert manifest.input_names == ("photo", "meta")
    assert manifest.golden_inputs == ("golden/inputs.npy", "golden/inputs.2.npy")
    assert manifest.form == SeveralInputs((("photo", Preprocess(8, 8)), ("meta", ArrayInput((3,), (-1.0, 2.0)))))
    for made in (pair(), alone()):
        assert Manifest.from_json(made.to_json()) == made
        with pytest.raises(UsageError) as caught:
            _ = made.picture
        assert caught.value.code == "not-one-picture"


def test_other_schemas_cannot_say_them() -> None:
    assert schema_for(pair().form) == schema_for(ArrayInput((3,))) == 4
    assert schema_for(Preprocess(8, 8)) == 1
    for made in (pair(), alone()):
        for schema in (1, 2, 3):
            with pytest.raises(BundleError):
                dataclasses.replace(made, schema=schema)
    with pytest.raises(BundleError):  # one picture needs no schema 4
        dataclasses.replace(pair(), more_inputs=())


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("name", "a b", "manifest-value"),
        ("name", "", "manifest-value"),
        ("name", "Photo", "manifest-value"),
        ("name", "probabilities", "manifest-duplicate"),
        ("name", 3, "manifest-value"),
        ("golden", "../inputs.npy", "manifest-path"),
        ("golden", "golden/none.npy", "manifest-unlisted"),
        ("preprocess", {"shape": [0], "range": None}, "manifest-value"),
        ("preprocess", {"shape": [3]}, "manifest-value"),
        ("preprocess", {"shape": [3], "range": None, "more": 1}, "manifest-value"),
        ("preprocess", None, "manifest-value"),
        ("scale", 1, "manifest-keys"),
    ],
)
def test_each_wrong_input_has_its_error(key: str, value: object, code: str) -> None:
    data: dict[str, Any] = json.loads(pair().to_json())
    data["more_inputs"][0][key] = value
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(json.dumps(data))
    assert caught.value.code == code


def test_schema_4_requires_the_key() -> None:
    data = json.loads(alone().to_json())
    assert data["more_inputs"] == []
    del data["more_inputs"]
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(json.dumps(data))
    assert caught.value.code == "manifest-keys"


def test_paths_and_words() -> None:
    check_path("golden/inputs.2.npy")
    check_word("meta-data_2", "name")
    with pytest.raises(BundleError):
        check_path("manifest.json")
    with pytest.raises(BundleError):
        check_word("a/b", "name")
