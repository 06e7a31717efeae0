"""A pair on the grid of the one before it goes; another grid stays."""

from __future__ import annotations

import pytest
from ovgraphs import apply, depthwise_weights

from xxdeploy.runtime.engines.openvino.passes import drop_repeated_pairs

LAYER = """
 e = DequantizeLinear(q, {grid})  w = DequantizeLinear(weights, ws, wz)
 y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8>(e, w)
"""


@pytest.mark.parametrize("grid", ["s, z", "s, zero"])
def test_the_second_pair_goes(grid: str) -> None:
    body = f"d = DequantizeLinear(x, {grid})  q = QuantizeLinear(d, {grid}) {LAYER.format(grid=grid)}"
    rewritten = apply(drop_repeated_pairs, body, weights=depthwise_weights())
    assert rewritten.count == 1
    assert rewritten.after["FakeQuantize"] == 0
    assert rewritten.off < 1e-5


@pytest.mark.parametrize("grid", ["t, z", "s, other"])
def test_another_grid_stays(grid: str) -> None:
    body = f"d = DequantizeLinear(x, s, z)  q = QuantizeLinear(d, {grid}) {LAYER.format(grid=grid)}"
    rewritten = apply(drop_repeated_pairs, body, weights=depthwise_weights())
    assert (rewritten.count, rewritten.after) == (0, rewritten.before)
