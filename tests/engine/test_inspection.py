"""What the engine inspector says, in the form that NVIDIA's documents show; and on a real card where there is one."""

from __future__ import annotations

import json

import pytest
from enginenets import rtx, small_int8

from xxdeploy.engine import EngineOptions, build_engine
from xxdeploy.engine.inspection import inspect_engine, read_inspection
from xxdeploy.engine.library import driver_problem, load_library
from xxdeploy.errors import EngineError


def layer(kind: str, datatype: str, **more: str) -> dict[str, object]:
    return {"Name": "x", "LayerType": kind, "Inputs": [{"Name": "a", "Format/Datatype": datatype}], **more}


def test_layers_are_counted_by_what_they_read() -> None:
    layers = [
        layer("CaskConvolution", "Int8 NC/32HW32"),
        layer("CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format"),
        layer("gemm", "Half"),
        layer("kgen", "Float", TacticName="__myl_Conv"),
        layer("Reformat", "Row major linear FP32"),
    ]
    found = read_inspection(json.dumps({"Layers": layers, "Bindings": []}))
    assert found.layers == 5
    assert found.by_type == {"int8": 2, "fp16": 1, "fp32": 1}
    assert found.share("int8") == 0.5
    assert found.share("bf16") == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Layers": 3}', "null"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(EngineError) as caught:
        read_inspection(text)
    assert caught.value.code == "engine-inspector"


@rtx
def test_without_a_driver_the_built_engine_is_not_looked_at() -> None:
    if driver_problem(load_library("tensorrt-rtx")) is None:
        pytest.skip("there is a GPU here")
    engine = build_engine(small_int8(), EngineOptions(precision="int8", gpus=("sm86",)))
    assert inspect_engine(engine) is None


@rtx
@pytest.mark.gpu
def test_the_built_layers_read_int8() -> None:
    if (problem := driver_problem(load_library("tensorrt-rtx"))) is not None:
        pytest.skip(f"no GPU: {problem}")
    found = inspect_engine(build_engine(small_int8(), EngineOptions(precision="int8")))
    assert found is not None
    assert found.share("int8") >= 0.9
