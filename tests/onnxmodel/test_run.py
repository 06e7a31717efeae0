"""One session starter: inner tensors, large weights through a file, and errors with a code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle
from graphnets import parse

from xxdeploy.cpu import cpu_features
from xxdeploy.errors import ConversionError, EngineError, UsageError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import GraphSession, Observer, ort_from_onnx
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.ort import OrtSession

TEXT = "g (float[n, 2] a) => (float[n, 2] c) <float[2] w = {3, 4}> { b = Mul(a, w) c = Relu(b) }"
BATCH = np.array([[-1, 2]], np.float32)


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("large", [1 << 30, 0])
def test_a_graph_through_a_file_is_the_same(optimize: bool, large: int) -> None:
    session = GraphSession(*parse(TEXT).split(), optimize=optimize, large=large)
    assert session.run(["c"], {"a": BATCH})[0].tolist() == [[0, 8]]


@pytest.mark.parametrize("optimize", [True, False])
def test_inner_tensors_are_returned_by_name_with_the_input(optimize: bool) -> None:
    values = Observer(Graph(parse(TEXT)), ["a", "b"], optimize=optimize).run(BATCH)
    assert {name: value.tolist() for name, value in values.items()} == {"a": [[-1, 2]], "b": [[-3, 8]]}


def test_nothing_but_the_input_is_not_run() -> None:
    assert list(Observer(Graph(parse(TEXT)), ["a"]).run(BATCH)) == ["a"]


@pytest.mark.parametrize("feeds", [{}, {"a": np.zeros((1, 3), np.float32)}])
def test_feeds_that_do_not_fit_are_an_error(feeds: dict[str, Any]) -> None:
    session = GraphSession(*parse(TEXT).split())
    with pytest.raises(ConversionError) as caught:
        session.run(["c"], feeds)
    assert caught.value.code == "calibration-run"


def test_a_graph_that_cannot_be_loaded_is_an_error() -> None:
    proto, arrays = parse(TEXT).split()
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ConversionError) as caught:
        GraphSession(proto, arrays)
    assert caught.value.code == "calibration-run"


def test_the_answers_are_the_same_and_each_format_is_read_only_as_what_it_is() -> None:
    model = OnnxModel(tiny_bundle.model_bytes())
    ort = ort_from_onnx(model)
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    assert np.allclose(OrtSession(ort, ort_format=True).run(batch), OrtSession(model.to_bytes()).run(batch), atol=1e-6)
    for content, ort_format in ((ort, False), (model.to_bytes(), True), (ort[:-200], True), (b"ORTM" * 50, True)):
        with pytest.raises(EngineError) as caught:
            OrtSession(content, ort_format=ort_format)
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
