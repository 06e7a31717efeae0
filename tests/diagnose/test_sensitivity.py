from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tiny_bundle
from codes import code_of

from xxdeploy.bundle.pack import pack
from xxdeploy.diagnose.sensitivity import RECORD, find_sensitivity
from xxdeploy.errors import BundleError, UsageError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import LayerNoise, Progress, noise_to_json
from xxdeploy.runtime.image.sizing import Sizing

LAYERS = (LayerNoise("conv1/Conv", "Conv", 12.5, 13.0, 20.0, 40.0, 12.5), LayerNoise("add", "Add", *[None] * 5))


def int8_bundle(out: Path, record: bytes | None = None) -> Path:
    """A bundle that says it is INT8, with a record or without."""
    parts, manifest = tiny_bundle.parts_and_manifest()
    variant = dataclasses.replace(manifest.variants[0], precision="int8", scheme="static-w7c-a8")
    if record is not None:
        parts[RECORD] = record
    return pack(dataclasses.replace(manifest, name="tiny-int8", variants=(variant,)), parts, out)


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    return tiny_bundle.make(tmp_path / "tiny")


def test_a_float_bundle_is_measured(fp32: Path, images: Path) -> None:
    reports: list[Progress] = []
    sensitivity = find_sensitivity(fp32, images / "plain", samples=12, method="minmax", on_progress=reports.append)
    assert (sensitivity.scheme, sensitivity.method) == ("static-w8c-a8", "minmax")
    assert (sensitivity.calibrated_images, sensitivity.measured_images) == (12, 12)
    assert {layer.operator for layer in sensitivity.layers} == {"Gemm", "GlobalAveragePool"}
    assert all(layer.sqnr_db is not None for layer in sensitivity.layers)
    assert {report.step for report in reports} == {"calibrate", "sensitivity"}
    assert all(report.total == 12 for report in reports)


def test_a_float_file_is_the_same_once_its_preprocessing_is_said(fp32: Path, images: Path) -> None:
    bundle = find_sensitivity(fp32, images / "plain", method="minmax")
    file = find_sensitivity(fp32 / "model.onnx", images / "plain", method="minmax", preprocess="tf")
    other = find_sensitivity(fp32 / "model.onnx", images / "plain", method="minmax", preprocess="none")
    assert bundle == file
    assert bundle.layers != other.layers
    assert code_of(find_sensitivity, fp32 / "model.onnx", images / "plain") == "preprocess-missing"


def test_a_recipe_says_how_many_and_which_method(fp32: Path, images: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "few.toml"
    recipe.write_text(f'folder = "{images / "plain"}"\nsamples = 5\nmethod = "percentile-99.9"\n')
    sensitivity = find_sensitivity(fp32, recipe)
    assert (sensitivity.calibrated_images, sensitivity.method) == (5, "percentile-99.9")
    assert find_sensitivity(fp32, recipe, samples=7, method="minmax").calibrated_images == 7


def test_the_record_of_an_int8_bundle(tmp_path: Path) -> None:
    bundle = int8_bundle(tmp_path / "b", noise_to_json(LAYERS).encode())
    sensitivity = find_sensitivity(bundle)
    assert sensitivity.layers == LAYERS
    assert (sensitivity.scheme, sensitivity.method, sensitivity.measured_images) == ("static-w7c-a8", None, None)


def test_a_damaged_record(tmp_path: Path) -> None:
    assert code_of(find_sensitivity, int8_bundle(tmp_path / "b", b"{}")) == "damaged-sensitivity"
    changed = int8_bundle(tmp_path / "c", noise_to_json(LAYERS).encode())
    (changed / RECORD).write_bytes(b" " * len(noise_to_json(LAYERS)))
    assert code_of(find_sensitivity, changed) == "file-hash"


def test_what_has_no_float_network(tmp_path: Path, images: Path) -> None:
    with pytest.raises(UsageError) as bare:
        find_sensitivity(int8_bundle(tmp_path / "bare"))
    assert bare.value.code == "no-sensitivity"
    assert "export tiny without --int8" in bare.value.hint
    recorded = int8_bundle(tmp_path / "b", noise_to_json(LAYERS).encode())
    with pytest.raises(UsageError) as given:
        find_sensitivity(recorded, images / "plain")
    assert given.value.code == "no-sensitivity"
    assert "leave --calibration out" in given.value.hint


def test_what_is_missing_or_too_much(fp32: Path, images: Path, tmp_path: Path) -> None:
    assert code_of(find_sensitivity, fp32) == "calibration-missing"
    assert code_of(find_sensitivity, fp32 / "model.onnx") == "calibration-missing"
    assert code_of(find_sensitivity, fp32, images / "plain", preprocess="tf") == "sensitivity-options"
    assert code_of(find_sensitivity, fp32, images / "plain", sizing=Sizing("crop")) == "sensitivity-options"
    assert code_of(find_sensitivity, fp32, tmp_path / "nothing") == "no-recipe"
    assert code_of(find_sensitivity, tmp_path / "missing.onnx", images / "plain", preprocess="tf") == "unreadable-file"


@pytest.mark.parametrize("shape", [("n", 3, 8, 8), ("n", "h", "w", 3), ("n", 12)])
def test_a_file_without_an_image_input(fp32: Path, images: Path, tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    proto = OnnxModel((fp32 / "model.onnx").read_bytes()).proto()
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    del dims[:]
    for size in shape:
        dims.add(**({"dim_param": size} if isinstance(size, str) else {"dim_value": size}))
    path = tmp_path / "other.onnx"
    path.write_bytes(proto.SerializeToString())
    assert code_of(find_sensitivity, path, images / "plain", preprocess="tf") == "no-image-input"


def test_a_damaged_bundle_is_not_measured(fp32: Path, images: Path) -> None:
    (fp32 / "labels.txt").write_text("x")
    with pytest.raises(BundleError):
        find_sensitivity(fp32, images / "plain")
