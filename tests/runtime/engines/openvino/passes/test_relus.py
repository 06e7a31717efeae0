"""Integer ReLUs from zero: the same answers, where the zero point fits and what is small."""

from __future__ import annotations

import pytest
from ovgraphs import apply, depthwise_weights

from xxdeploy.runtime.engines.openvino.graph import Graph
from xxdeploy.runtime.engines.openvino.passes import relus_from_zero

LAYER = """
 d = DequantizeLinear(r, s, z)  w = DequantizeLinear(weights, ws, wz)
 y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8>(d, w)
"""


@pytest.mark.parametrize("clip", ["Clip(x, z, top)", "Clip(x, z)", "Max(x, z)"])
def test_the_same_from_zero(clip: str) -> None:
    rewritten = apply(relus_from_zero, f"r = {clip} {LAYER}", weights=depthwise_weights())
    assert rewritten.count == 1
    assert rewritten.after["Maximum"] == 0
    assert rewritten.after["Relu"] == 1
    assert rewritten.off < 1e-5 * rewritten.spread


@pytest.mark.parametrize(
    "clip",
    ["Clip(x, zero, top)", "Clip(x, other, top)", "Min(x, z)", "Clip(x, z, other)"],
    ids=["0", "low", "min", "top"],
)
def test_what_is_no_relu_stays(clip: str) -> None:
    rewritten = apply(relus_from_zero, f"r = {clip} {LAYER}", weights=depthwise_weights())
    assert (rewritten.count, rewritten.after) == (0, rewritten.before)


def test_a_reader_with_another_zero_point() -> None:
    body = (
        f"r = Clip(x, z, top) {LAYER.replace('y = Conv', 'c = Conv')} e = DequantizeLinear(r, s, other)  y = Add(c, e)"
    )
    assert apply(relus_from_zero, body, weights=depthwise_weights()).count == 0


def test_a_large_one_stays() -> None:
    def of_small_values(graph: Graph) -> int:
        return relus_from_zero(graph, largest=8 * 81 - 1)

    assert apply(of_small_values, f"r = Clip(x, z, top) {LAYER}", weights=depthwise_weights()).count == 0
