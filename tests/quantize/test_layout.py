from __future__ import annotations

import numpy as np
import pytest
from quantnets import parse, residual

from xxdeploy.errors import ConversionError
from xxdeploy.quantize.graph_view import GraphView
from xxdeploy.quantize.layout import Layout, plan_layout
from xxdeploy.quantize.scheme import Scheme

W = np.ones((4, 4, 1, 1), np.float32)
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def plan(text: str, float_layers: tuple[str, ...] = (), **arrays: np.ndarray) -> Layout:
    view = GraphView.of(parse(HEAD + text, arrays))
    return plan_layout(view, Scheme(float_layers=frozenset(float_layers)))


def test_the_residual_network() -> None:
    layout = plan_layout(GraphView.of(residual()), Scheme())
    assert layout.layers == {
        "stem", "wide", "deep", "thin", "sum", "grouped", "both", "pooled", "mean", "logits",
    }  # fmt: skip
    assert dict(layout.scale_of) == {
        "image": "image", "nchw": "image", "stem6": "stem6", "down": "stem6", "wide6": "wide6", "deep6": "deep6",
        "thin": "thin", "sum": "sum", "grouped": "grouped", "both": "both", "pooled": "pooled", "padded": "pooled",
        "mean": "mean", "flat": "mean",
    }  # fmt: skip
    assert "logits" not in layout.scale_of  # nothing integer reads them
    assert layout.measured == tuple(dict.fromkeys(layout.scale_of.values()))


def test_an_activation_that_shares_its_input_is_not_swallowed() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  r = Relu(a)  b = Conv(r, w)  y = Add(a, b) }""",
        w=W,
    )
    assert set(layout.scale_of) == {"x", "a", "r", "b", "y"}


def test_integers_stop_before_softmax_and_float_operators() -> None:
    layout = plan(
        """g (float[n, 4] x) => (float[n, 4] y)
        { a = MatMul(x, w)  b = Sigmoid(a)  c = Gemm(b, w)  d = Reshape(c, s)  y = Softmax(d) }""",
        w=W[:, :, 0, 0],
        s=np.array([-1, 4]),
    )
    assert layout.layers == {"a", "c"}
    assert set(layout.scale_of) == {"x", "b"}  # MatMul and Gemm write float where float is read


def test_constant_operands() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  b = Mul(a, half)  c = Add(b, vector)  d = Add(c, half)  y = Add(d, b) }""",
        w=W,
        half=np.array([0.5], np.float32),
        vector=np.ones((4, 1, 1), np.float32),
    )
    assert layout.layers == {"a", "b", "d", "y"}  # a single number is exact in integers, a vector is not


def test_shape_arithmetic_is_left_alone() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, k] y)
        { a = Conv(x, w)  s = Shape(a)  b = Slice(s, zero, one)  t = Concat<axis = 0>(b, rest)  y = Reshape(a, t) }""",
        w=W,
        zero=np.array([0]),
        one=np.array([1]),
        rest=np.array([-1]),
    )
    assert layout.layers == {"a"}
    assert set(layout.scale_of) == {"x", "a"}


@pytest.mark.parametrize("weights", ["computed", "transposed", "scaled"])
def test_weights_that_the_kernels_cannot_take_stay_in_float(weights: str) -> None:
    node = {
        "computed": "v = Sqrt(w)  a = MatMul(x, v)",
        "transposed": "a = Gemm<transA = 1>(x, w)",
        "scaled": "a = Gemm<alpha = 0.5>(x, w)",
    }[weights]
    layout = plan(
        f"g (float[4, 4] x) => (float[4, 4] y) {{ {node}  y = Gemm(a, w) }}",
        w=W[:, :, 0, 0],
    )
    assert layout.layers == {"y"}


def test_padding_with_another_value_stays_in_float() -> None:
    text = """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { p = Pad(x, pads, value)  y = Conv(p, w) }"""
    pads = np.array([0, 0, 0, 0, 0, 0, 0, 0])
    zero = plan(text, w=W, pads=pads, value=np.zeros((), np.float32))
    one = plan(text, w=W, pads=pads, value=np.ones((), np.float32))
    assert zero.scale_of["p"] == "x"
    assert one.scale_of["p"] == "p"


def test_named_layers_stay_in_float() -> None:
    layout = plan_layout(GraphView.of(residual()), Scheme(float_layers=frozenset({"deep", "both"})))
    assert not layout.layers & {"deep", "both"}
    assert "wide6" in layout.scale_of  # its producer is an integer layer
    assert "deep6" in layout.scale_of  # its reader is one
    assert "pooled" in layout.layers


def test_nothing_to_quantise() -> None:
    with pytest.raises(ConversionError) as caught:
        plan("g (float[n, 4] x) => (float[n, 4] y) { a = Add(x, x)  y = Softmax(a) }")
    assert caught.value.code == "nothing-to-quantize"
