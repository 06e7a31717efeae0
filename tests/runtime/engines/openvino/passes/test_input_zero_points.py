"""What depthwise layers of one point read starts at zero: the same answers."""

from __future__ import annotations

import numpy as np
import pytest
from ovgraphs import CHANNELS, apply

from xxdeploy.runtime.engines.openvino.passes import input_zero_points_as_biases

WEIGHTS = np.random.default_rng(3).integers(-127, 128, (CHANNELS, 1, 1, 1)).astype(np.int8)
BIAS = np.random.default_rng(4).normal(size=CHANNELS).astype(np.float32)
LAYER = """
 d = DequantizeLinear({read})  w = DequantizeLinear(weights, ws, wz)
 c = Conv<kernel_shape = [1, 1], pads = {pads}, strides = {strides}, group = 8>(d, w{bias})
 q = QuantizeLinear(c, t, zero)  y = DequantizeLinear(q, t, zero)
"""
PLAIN = {"read": "x, s, z", "pads": "[0, 0, 0, 0]", "strides": "[1, 1]", "bias": ", bias"}


@pytest.mark.parametrize("strides", ["[1, 1]", "[2, 1]"])
def test_the_same(strides: str) -> None:
    rewritten = apply(
        input_zero_points_as_biases, LAYER.format(**{**PLAIN, "strides": strides}), weights=WEIGHTS, bias=BIAS
    )
    assert rewritten.count == 1
    assert rewritten.after["Subtract"] < rewritten.before["Subtract"]
    assert rewritten.off <= 0.051  # a step, where a value lies between two
    assert rewritten.spread > 1


def test_behind_a_pool_of_two_outputs() -> None:
    body = "m = MaxPool<kernel_shape = [3, 3]>(x)" + LAYER.format(**{**PLAIN, "read": "m, s, z"})
    rewritten = apply(input_zero_points_as_biases, body, weights=WEIGHTS, bias=BIAS)
    assert rewritten.count == 1
    assert rewritten.off <= 0.051


@pytest.mark.parametrize("other", [{"read": "x, s, zero"}, {"pads": "[1, 1, 0, 0]"}, {"bias": ""}], ids=str)
def test_what_stays(other: dict[str, str]) -> None:
    rewritten = apply(input_zero_points_as_biases, LAYER.format(**{**PLAIN, **other}), weights=WEIGHTS, bias=BIAS)
    assert (rewritten.count, rewritten.after) == (0, rewritten.before)


def test_what_is_added_is_no_bias() -> None:
    two = """
     d = DequantizeLinear(x, s, z)  w = DequantizeLinear(weights, ws, wz)  v = DequantizeLinear(others, ws, wz)
     a = Conv<kernel_shape = [1, 1], group = 8>(d, w)  b = Conv<kernel_shape = [1, 1], group = 8>(d, v)  y = Add(a, b)
    """
    rewritten = apply(input_zero_points_as_biases, two, weights=WEIGHTS, others=WEIGHTS[::-1].copy())
    assert (rewritten.count, rewritten.after) == (0, rewritten.before)
    along_a_side = """
     d = DequantizeLinear(x, s, z)  w = DequantizeLinear(weights, ws, wz)
     c = Conv<kernel_shape = [1, 1], group = 8, strides = [1, 1], pads = [0, 0, 0, 0]>(d, w)  y = Add(c, row)
    """
    rewritten = apply(input_zero_points_as_biases, along_a_side, weights=WEIGHTS, row=np.ones(9, np.float32))
    assert (rewritten.count, rewritten.after) == (0, rewritten.before)
