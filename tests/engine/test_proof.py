"""The verdict over shares and sizes, by hand."""

from __future__ import annotations

import pytest

from xxdeploy.engine.proof import LAYER_BYTES, PLAN_BYTES, PrecisionProof, Work, check_precision, check_size
from xxdeploy.errors import EngineError


def work(macs: int, data: str, kernel: str, weights: int = 0, name: str = "layer") -> Work:
    return Work(name, "Conv", macs, weights, data, kernel)


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
