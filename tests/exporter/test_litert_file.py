"""``export --with litert``: the file in the bundle, its proof, and its use on a device."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from xxdeploy.errors import BundleError, EngineError, MissingDependencyError, UsageError
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.pipeline import export
from xxdeploy.exporter.precision import litert_file
from xxdeploy.exporter.trt_engine import build_from_bundle
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load

pytest.importorskip("ai_edge_litert", reason="pip install 'xxdeploy[litert]': there is no LiteRT to run the files")

from litertnets import network, pictures, weights
from quantnets import run

from xxdeploy.engine import EngineOptions
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import ModelFile
from xxdeploy.runtime.engines.litert import LitertSession


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def carrying(request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("litert") / str(request.param)
    weights = {"weights": "none", "calibration": images / "plain", "evaluation": images / "labelled"}
    if request.param != "int8":
        del weights["calibration"]
    options = ExportOptions.of(request.param, more="litert", **weights)
    result = export(find("lenet"), options, out)
    assert [row.runner for row in result.rows][-1] == f"litert-{request.param}"
    assert result.rows[-1].agreement is not None
    assert result.rows[-1].agreement > 0.8  # of 20 images
    return out


def test_the_file_gives_the_answers_of_the_others(carrying: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 1)).astype(np.uint8)
    with load(carrying, tuning="off") as usual, load(carrying, engine="litert", selftest=True) as other:
        assert other.variant.requires == ("litert",)
        assert (other.variant.inputs[0].shape, usual.variant.inputs[0].shape) == ((1, 28, 28, 1), (None, 28, 28, 1))
        assert usual.variant.requires != ("litert",)
        np.testing.assert_allclose(other.probabilities(image), usual.probabilities(image), atol=0.05)


def test_no_other_engine_opens_the_file(carrying: Path) -> None:
    with load(carrying, engine="litert") as runtime:
        name = runtime.variant.name
    with pytest.raises(EngineError) as caught:
        load(carrying, variant=name, engine="onnxruntime")
    assert caught.value.code == "litert-file"


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without an ONNX file."""
    options = ExportOptions.of("int8", target="litert", weights="none", calibration=images / "plain", keep_fp32=True)
    out = tmp_path_factory.mktemp("litert") / "alone"
    result = export(find("lenet"), options, out)
    assert [row.runner for row in result.rows][-3:] == ["onnx-int8", "litert-int8", "litert-fp32"]
    return out


def test_a_bundle_for_litert_has_no_onnx_file_and_needs_no_engine_named(alone: Path) -> None:
    assert {path.suffix for path in alone.glob("model*")} == {".tflite"}
    with load(alone, tuning="off", selftest=True) as runtime:
        assert runtime.variant.name == "int8"
        assert runtime.variant.scheme == "static-w8c-a8i"
        assert runtime.variant.inputs[0].dtype == "uint8"
        assert runtime.settings is not None
        assert runtime.settings.engine == "litert"
    assert load(alone, variant="fp32").variant.inputs[0].dtype == "float32"
    with pytest.raises(BundleError, match="LiteRT files only") as caught:
        load(alone, engine="onnxruntime")
    assert caught.value.code == "no-variant"


@pytest.mark.parametrize("variant", [None, "int8"])
def test_tensorrt_cannot_be_built_from_it(alone: Path, tmp_path: Path, variant: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        build_from_bundle(alone, EngineOptions(gpus=("sm86",)), tmp_path / "engine", variant=variant)
    assert caught.value.code == "no-engine-variant"


@pytest.mark.parametrize("how", [{"target": "litert"}, {"more": "litert"}])
def test_a_missing_library_is_told_before_the_work(
    how: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    monkeypatch.setattr("xxdeploy.exporter.pipeline.open_source", lambda *_: pytest.fail("the work has begun"))
    with pytest.raises(MissingDependencyError) as caught:
        export(find("lenet"), ExportOptions.of("fp32", weights="none", **how), tmp_path / "out")
    assert (caught.value.code, caught.value.hint) == ("missing-dependency", "pip install 'xxdeploy[litert]'")


def with_weight(number: float) -> OnnxModel:
    kernel = weights(64, 3, 3, 3)
    kernel[0, 0, 0, 0] = number
    return network("y = Conv(x, w)", "float[n, 64, 7, 6]", {"w": kernel})


def test_float16_weights_halve_the_file_and_are_those_of_its_answers() -> None:
    model = with_weight(0.1)
    whole = ModelFile("fp32", model, "float32", (), model)
    half, full = litert_file(whole, half=True), litert_file(whole)
    assert (half.name, half.precision, full.name, full.precision) == ("fp16", "fp16", "fp32", "fp32")
    assert half.flat is not None
    assert full.flat is not None
    assert len(full.flat) - len(half.flat) > 0.9 * 2 * 64 * 27
    batch = pictures(model)
    for reference in (False, True):
        answer = LitertSession(half.flat, reference=reference, threads=1).run(batch)
        np.testing.assert_allclose(answer, run(half.answers, batch), rtol=1e-4, atol=1e-4)
    assert np.abs(run(half.answers, batch) - run(model, batch)).max() > 1e-4


def test_weights_beyond_float16_stay_float32() -> None:
    wide = with_weight(70000.0)
    file = litert_file(ModelFile("fp32", wide, "float32", (), wide), half=True)
    assert file.flat is not None
    batch = pictures(wide)
    np.testing.assert_allclose(LitertSession(file.flat, threads=1).run(batch), run(wide, batch), rtol=1e-3, atol=1e-3)
