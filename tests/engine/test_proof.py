"""The verdict over shares and sizes, by hand; and the engine inspector's answer, on a card where there is one."""

from __future__ import annotations

import json

import pytest
from enginenets import rtx, small_int8

from xxdeploy.engine import EngineOptions, build_engine
from xxdeploy.engine.library import driver_problem, load_library
from xxdeploy.engine.proof import (
    LAYER_BYTES,
    PLAN_BYTES,
    PrecisionProof,
    Work,
    check_precision,
    check_size,
    inspect_engine,
    read_inspection,
)
from xxdeploy.errors import EngineError


def work(macs: int, text: str, kernel: str, weights: int = 0, name: str = "layer") -> Work:
    return Work(name, "Conv", macs, weights, text, kernel)


def test_shares_count_multiplications_not_layers() -> None:
    proof = PrecisionProof((work(90, "int8", "int8"), work(6, "fp32", "fp32"), work(4, "int8", "fp32")))
    assert proof.shares == {"int8": 0.9, "fp32": 0.06, "mixed": 0.04}
    check_precision(proof, "int8")
    with pytest.raises(EngineError, match=r"only 6\.0 % of the work is fp32"):
        check_precision(proof, "fp32")


def test_just_below_nine_tenths_fails() -> None:
    with pytest.raises(EngineError, match=r"89\.9 % .* other \(fp32\)"):
        check_precision(PrecisionProof((work(899, "fp16", "fp16"), work(101, "fp32", "fp32", name="other"))), "fp16")


def test_a_network_that_computes_nothing_proves_nothing() -> None:
    with pytest.raises(EngineError, match="no layer computes anything"):
        check_precision(PrecisionProof(()), "fp32")


def test_a_plan_with_room_for_float_weights_is_refused() -> None:
    proof = PrecisionProof((work(1, "int8", "int8", weights=25_000_000),))
    assert (proof.weight_bytes, proof.float_bytes) == (25_000_000, 100_000_000)
    beside = PLAN_BYTES + LAYER_BYTES
    check_size(proof, 25_000_000 + beside, "int8")
    with pytest.raises(EngineError) as caught:
        check_size(proof, 100_000_000, "int8")
    assert caught.value.code == "engine-precision"
    check_size(proof, 100_000_000, "fp32")


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
    inspection = read_inspection(json.dumps({"Layers": layers, "Bindings": []}))
    assert inspection.layers == 5
    assert inspection.by_type == {"int8": 2, "fp16": 1, "fp32": 1}
    assert inspection.share("int8") == 0.5
    assert inspection.share("bf16") == 0


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
    layers = inspect_engine(build_engine(small_int8(), EngineOptions(precision="int8")))
    assert layers is not None
    assert layers.share("int8") >= 0.9
