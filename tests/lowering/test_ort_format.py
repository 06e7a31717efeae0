"""Bundles in ONNX Runtime's own format: the same answers, from onnxruntime only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from xxdeploy.errors import ConversionError, EngineError, UsageError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.lowering.ort_format import ort_from_onnx
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime import load
from xxdeploy.runtime.cpu import cpu_features
from xxdeploy.runtime.engines.ort import OrtSession


def test_the_answers_are_the_same_and_each_format_is_read_only_as_what_it_is() -> None:
    model = OnnxModel(tiny_bundle.model_bytes())
    ort = ort_from_onnx(model)
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    assert np.allclose(OrtSession(ort, ort_format=True).run(batch), OrtSession(model.to_bytes()).run(batch), atol=1e-6)
    for data, ort_format in ((ort, False), (model.to_bytes(), True), (ort[:-200], True), (b"ORTM" * 50, True)):
        with pytest.raises(EngineError) as caught:
            OrtSession(data, ort_format=ort_format)
        assert caught.value.code == "engine-load"
    with pytest.raises(ConversionError) as failed:
        ort_from_onnx(OnnxModel(b"not a model"))
    assert failed.value.code == "ort-format"


def test_a_bundle(tmp_path: Path, images: Path) -> None:
    plan = ExportOptions.of("int8", weights="none", calibration=images / "plain", ort_format=True)
    bundle = export(find("lenet"), plan, tmp_path / "out").bundle
    runtime = load(bundle, selftest=True)
    assert runtime.variant.model.endswith(".ort")
    endings = {variant.name: variant.model.rpartition(".")[2] for variant in runtime.manifest.variants}
    if "arm" not in cpu_features():
        assert endings["int8-arm"] == "onnx"  # here it would be optimized for x86
    with pytest.raises(EngineError) as caught:
        load(bundle, engine="openvino")
    assert caught.value.code == "ort-format-only"


def test_an_engine_is_built_from_onnx() -> None:

    with pytest.raises(UsageError) as caught:
        ExportOptions.of("fp32", ort_format=True, target="tensorrt-rtx")
    assert caught.value.code == "cpu-and-target"
