"""Inputs and outputs of the model files in schema 5, and what an engine finds in the file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from manifests import current, good, several

from xxdeploy.bundle.pack import pack
from xxdeploy.errors import BundleError
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.bundle.tensors import InputTensor, OutputTensor, check_held, fits
from xxdeploy.runtime.engines.session import TensorInfo
from xxdeploy.runtime.inputs import ArrayInput

IMAGE = InputTensor("image", "float32", (None, 8, 8, 3), "NHWC")
OUTPUT = OutputTensor("probabilities", "float32", (None, 3))


def test_they_survive_the_round_trip_and_older_schemas_have_none() -> None:
    assert Manifest.from_json(current().to_json()) == current()
    assert json.loads(current().to_json())["variants"][0]["inputs"] == [
        {"name": "image", "dtype": "uint8", "shape": [None, 8, 8, 3], "layout": "NHWC"}
    ]
    assert Manifest.from_json(good().to_json()).variants[0].inputs == ()
    with pytest.raises(BundleError, match="only schema 5"):
        dataclasses.replace(current(), schema=1)
    with pytest.raises(BundleError, match="maps"):
        dataclasses.replace(good(), schema=5)
    with pytest.raises(BundleError, match="maps"):  # an output is missing
        dataclasses.replace(several(), schema=5, variants=current().variants)


@pytest.mark.parametrize(
    ("where", "value", "code"),
    [
        ("inputs", [], "manifest-value"),
        ("inputs", None, "manifest-value"),
        ("outputs", [], "manifest-value"),
        ("name", "photo", "manifest-value"),
        ("name", "", "manifest-value"),
        ("dtype", "float16", "manifest-value"),
        ("dtype", 1, "manifest-value"),
        ("shape", [None, 8, 9, 3], "manifest-value"),
        ("shape", [None, 3, 8, 8], "manifest-value"),
        ("shape", [None, 8, 8], "manifest-value"),
        ("shape", [None, 8, 8, True], "manifest-value"),
        ("shape", [None, 8, 8, 0], "manifest-value"),
        ("shape", [0, 8, 8, 3], "manifest-value"),
        ("shape", [1] * 10, "manifest-value"),
        ("shape", [], "manifest-value"),
        ("layout", "NCHW", "manifest-value"),
        ("layout", None, "manifest-value"),
        ("order", "rgb", "manifest-keys"),
    ],
)
def test_each_wrong_value_has_its_error(where: str, value: Any, code: str) -> None:
    data = json.loads(current().to_json())
    variant = data["variants"][1]
    (variant if where in variant and where != "name" else variant["inputs"][0])[where] = value
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(json.dumps(data))
    assert caught.value.code == code


def test_an_array_has_no_layout_and_no_pixels() -> None:
    InputTensor("meta", "float32", (None, 3), None).check_part(ArrayInput((3,)))
    for shape, layout in (((None, 4), None), ((None, 3), "NHWC")):
        with pytest.raises(BundleError, match="the preprocessing makes 3"):
            InputTensor("meta", "float32", shape, layout).check_part(ArrayInput((3,)))
    with pytest.raises(BundleError, match="uint8 with the layout None"):
        InputTensor("meta", "uint8", (None, 3), None)


def test_a_free_side_fits_every_side() -> None:
    assert fits((None, 3), (1, 3))
    assert fits((1, 3), (None, 3))
    assert not fits((1, 3), (1, 4))
    assert not fits((1, 3), (1, 3, 1))


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ([IMAGE], [OUTPUT, OUTPUT], "1 outputs, the manifest says 2"),
        ([dataclasses.replace(IMAGE, dtype="uint8")], [OUTPUT], "says image uint8"),
        ([dataclasses.replace(IMAGE, shape=(1, 8, 8, 3))], [OUTPUT], r"image float32 \(any, 8, 8, 3\), .* \(1, 8"),
        ([IMAGE], [dataclasses.replace(OUTPUT, shape=(None, 4))], "says probabilities"),
        ([IMAGE], [dataclasses.replace(OUTPUT, name="scores")], "says scores"),
    ],
)
def test_a_file_with_other_tensors_is_refused(inputs: Any, outputs: Any, says: str) -> None:
    held = [TensorInfo("image", "float32", (None, 8, 8, 3))], [TensorInfo("probabilities", "float32", (1, 3))]
    check_held("model.onnx", ([IMAGE], [OUTPUT]), held)
    with pytest.raises(BundleError, match=says) as caught:
        check_held("model.onnx", (inputs, outputs), held)
    assert caught.value.code == "bundle-signature"


def test_load_compares_them_with_the_model_file(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()

    def bundle(name: str, image: InputTensor) -> Path:
        output = dataclasses.replace(OUTPUT, shape=(None, tiny_bundle.CLASSES))
        variant = dataclasses.replace(manifest.variants[0], inputs=(image,), outputs=(output,))
        return pack(dataclasses.replace(manifest, schema=5, variants=(variant,)), parts, tmp_path / name)

    assert load(bundle("right", IMAGE), selftest=True).manifest.schema == 5
    with pytest.raises(BundleError, match="the manifest says image uint8"):
        load(bundle("wrong", dataclasses.replace(IMAGE, dtype="uint8")))
