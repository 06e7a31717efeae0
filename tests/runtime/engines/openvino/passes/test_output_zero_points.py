"""Zero points of depthwise layers as biases: the same integers."""

from __future__ import annotations

import pytest
from ovgraphs import apply, depthwise_weights

from xxdeploy.runtime.engines.openvino.passes import output_zero_points_as_biases

LAYER = """
 d = DequantizeLinear(x, s, zero)  w = DequantizeLinear(weights, ws, wz)
 c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8>(d, w)
"""


def test_the_same_integers() -> None:
    rewritten = apply(
        output_zero_points_as_biases,
        f"{LAYER} q = QuantizeLinear(c, t, z)  y = DequantizeLinear(q, t, z)",
        weights=depthwise_weights(),
    )
    assert rewritten.count == 1
    assert rewritten.after["Add"] == rewritten.before["Add"] + 1
    assert rewritten.off <= 0.051  # a step, where a value lies between two
    assert rewritten.spread > 3


@pytest.mark.parametrize(
    "tail",
    [
        "q = QuantizeLinear(c, t, zero)  y = DequantizeLinear(q, t, zero)",
        "r = Relu(c)  q = QuantizeLinear(r, t, z)  y = DequantizeLinear(q, t, z)",
        "q = QuantizeLinear(c, t, z)  e = DequantizeLinear(q, t, z)  y = Add(e, c)",
    ],
    ids=["from zero", "relu", "two readers"],
)
def test_what_stays(tail: str) -> None:
    rewritten = apply(output_zero_points_as_biases, LAYER + tail, weights=depthwise_weights())
    assert (rewritten.count, rewritten.after) == (0, rewritten.before)
