from __future__ import annotations

import numpy as np
import pytest
from quantnets import parse

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.quantize.curves import find_curves, narrowed
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.qdq import layout_parameters
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import Ranges

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
W = np.ones((4, 4, 1, 1), np.float32)
SWISH = "s = Sigmoid(a)  y = Mul(a, s)"
HARD = "p = Add(a, three)  c = Clip(p, zero, six)  d = Div(c, six)  y = Mul(a, d)"
GELU = "q = Div(a, root)  e = Erf(q)  o = Add(e, one)  h = Mul(half, a)  y = Mul(h, o)"
NUMBERS = {"zero": 0.0, "half": 0.5, "one": 1.0, "root": 2**0.5, "three": 3.0, "six": 6.0}


def graph_of(middle: str, *, inner: str = "a = Conv(x, w)", end: str = "z = Conv(y, w)") -> Graph:
    text = f"{HEAD} g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] z) {{ {inner}  {middle}  {end} }}"
    scalars = {name: np.asarray(value, np.float32) for name, value in NUMBERS.items() if name in text}
    return Graph(parse(text, {"w": W, **scalars}))


@pytest.mark.parametrize(("middle", "count"), [(SWISH, 2), (HARD, 4), (GELU, 5)])
def test_an_activation_is_one_function_that_stays_in_float(middle: str, count: int) -> None:
    graph = graph_of(middle)
    (curve,) = find_curves(graph)
    assert (curve.source, curve.end, len(curve.nodes)) == ("a", "y", count)
    layout = plan_layout(graph, Scheme())
    assert layout.layers == {"a", "z"}
    assert set(layout.scale_of) == {"x", "a", "y", "z"}  # rounded before and after, never between


@pytest.mark.parametrize(
    "graph",
    [
        graph_of("s = Sigmoid(a)  y = Mul(x, s)"),  # a gate: two tensors
        graph_of("y = Mul(a, half)"),
        graph_of("s = Sigmoid(a)  y = Mul(a, s)  t = Conv(s, w)", end="v = Conv(y, w)  z = Add(v, t)"),
        graph_of("m = GlobalAveragePool(a)  y = Mul(a, m)"),
    ],
    ids=["gate", "scale", "read outside", "not by element"],
)
def test_what_is_no_function_of_one_tensor(graph: Graph) -> None:
    assert find_curves(graph) == ()


@pytest.mark.parametrize(("middle", "lowest"), [(HARD, (-3.0, -2.8)), (SWISH, (-6.0, -4.0)), (GELU, (-4.0, -2.0))])
def test_the_range_ends_where_the_function_is_flat(middle: str, lowest: tuple[float, float]) -> None:
    graph = graph_of(middle)
    (curve,) = find_curves(graph)
    low, high = narrowed(graph, curve, -20.0, 15.0)
    assert lowest[0] < low < lowest[1]
    assert high == 15.0
    assert narrowed(graph, curve, -0.5, 15.0)[0] == pytest.approx(-0.5, abs=0.1)  # little to gain
    assert narrowed(graph, curve, 1.0, 15.0) == (1.0, 15.0)


def test_the_scale_follows_unless_another_layer_reads_the_tensor() -> None:
    spans = dict.fromkeys(("x", "a", "y", "z", "b"), (-20.0, 15.0))
    ranges = Ranges("minmax", "", "", 1, spans)
    for end, step in (("z = Conv(y, w)", 18 / 255), ("b = Conv(a, w)  v = Conv(y, w)  z = Add(v, b)", 35 / 255)):
        graph = graph_of(HARD, end=end)
        ranges.ranges["v"] = spans["x"]  # type: ignore[index]
        layout = plan_layout(graph, Scheme())
        scale = float(layout_parameters(graph, layout, ranges, Scheme())["a"].scale)
        assert scale == pytest.approx(step, rel=0.02)
