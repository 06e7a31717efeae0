from __future__ import annotations

import numpy as np
import pytest
from quantnets import parse, residual

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.quantize.placement import Layout, plan_layout
from xxdeploy.quantize.scheme import Scheme

W = np.ones((4, 4, 1, 1), np.float32)
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def plan(text: str, float_layers: tuple[str, ...] = (), **arrays: np.ndarray) -> Layout:
    graph = Graph(parse(HEAD + text, arrays))
    return plan_layout(graph, Scheme(float_layers=frozenset(float_layers)))


def test_the_residual_network() -> None:
    layout = plan_layout(Graph(residual()), Scheme())
    assert layout.layers == {
        "stem", "wide", "deep", "thin", "sum", "grouped", "both", "mean", "logits",
    }  # fmt: skip
    # pooled is made in float, and rounded for what reads it
    assert dict(layout.scale_of) == {
        "image": "image", "nchw": "image", "stem6": "stem6", "down": "stem6", "wide6": "wide6", "deep6": "deep6",
        "thin": "thin", "sum": "sum", "grouped": "grouped", "both": "grouped", "pooled": "pooled", "padded": "pooled",
        "mean": "mean", "flat": "mean",
    }  # fmt: skip
    assert "logits" not in layout.scale_of  # nothing integer reads them
    assert layout.sources["grouped"] == ("grouped", "both")  # only the Concat reads grouped
    assert all(names == (root,) for root, names in layout.sources.items() if root != "grouped")
    assert layout.measured == (
        "image", "stem6", "wide6", "deep6", "thin", "sum", "grouped", "both", "pooled", "mean",
    )  # fmt: skip


def test_an_activation_that_shares_its_input_is_not_swallowed() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  r = Relu(a)  b = Conv(r, w)  y = Add(a, b) }""",
        w=W,
    )
    assert set(layout.scale_of) == {"x", "a", "r", "b", "y"}
    assert layout.scale_of["r"] == "a"  # a is rounded already: what Relu keeps of it are integers of that scale
    assert layout.sources["a"] == ("a", "r")  # r is measured for when a goes back to float


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
        { a = Conv(x, w)  b = Mul(a, half)  c = Mul(b, vector)  d = Mul(c, half)  y = Add(d, b) }""",
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
    almost = plan(text, w=W, pads=pads, value=np.full((), np.finfo(np.float32).tiny))  # see passes/fold_pad.py
    assert zero.scale_of["p"] == almost.scale_of["p"] == "x"
    assert one.scale_of["p"] == "p"


def test_named_layers_stay_in_float() -> None:
    layout = plan_layout(Graph(residual()), Scheme(float_layers=frozenset({"deep", "both"})))
    assert not layout.layers & {"deep", "both"}
    assert "wide6" in layout.scale_of  # its producer is an integer layer
    assert "deep6" in layout.scale_of  # its reader is one
    assert "mean" in layout.layers


def test_nothing_to_quantize() -> None:
    with pytest.raises(ConversionError) as caught:
        plan("g (float[n, 4] x) => (float[n, 4] y) { a = Add(x, x)  y = Softmax(a) }")
    assert caught.value.code == "nothing-to-quantize"


def test_what_only_a_concat_reads_shares_its_scale() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  b = Conv(x, w)  br = Relu(b)  c = Conv(x, w)  m = MaxPool<kernel_shape = [1, 1]>(x)
          both = Concat<axis = 1>(a, br, c, m, m)  d = Conv(c, w)  y = Conv(both, wide) }""",
        w=W,
        wide=np.ones((4, 20, 1, 1), np.float32),
    )
    scales = layout.scale_of
    assert scales["a"] == scales["br"] == scales["both"] == "a"
    assert layout.sources["a"] == ("a", "br", "both")
    assert scales["c"] == "c"  # d reads it as well
    assert scales["m"] == "x"  # it has its input's scale already
    assert layout.sources["x"] == ("x",)


def test_concats_in_a_row_have_one_scale() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  b = Conv(x, w)  c = Conv(x, w)  inner = Concat<axis = 1>(a, b)
          d = Conv(inner, narrow)  outer = Concat<axis = 1>(inner, c, d)  y = Conv(outer, wide) }""",
        w=W,
        narrow=np.ones((4, 8, 1, 1), np.float32),
        wide=np.ones((4, 16, 1, 1), np.float32),
    )
    shared = ("a", "b", "c", "inner", "d", "outer")
    assert {layout.scale_of[name] for name in shared} == {"a"}
    assert layout.sources == {"x": ("x",), "a": shared, "y": ("y",)}


def test_a_concat_with_an_activation_or_a_constant() -> None:
    clipped = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  b = Conv(x, w)  both = Concat<axis = 1>(a, b)  c = Clip(both, zero, six)  y = Conv(c, v) }""",
        w=W,
        v=np.ones((4, 8, 1, 1), np.float32),
        zero=np.zeros((), np.float32),
        six=np.full((), 6, np.float32),
    )
    assert clipped.sources["c"] == ("c",)  # a and b may reach far beyond 0..6
    constant = plan(
        "g (float[1, 4, 1, 1] x) => (float[1, 5, 1, 1] y) { a = Conv(x, w)  y = Concat<axis = 1>(a, one) }",
        w=W,
        one=np.ones((1, 1, 1, 1), np.float32),
    )
    assert dict(constant.scale_of) == {"x": "x", "a": "a", "y": "a"}


def test_an_add_beside_an_average_pool_stays_in_float() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  p = AveragePool<kernel_shape = [1, 1]>(a)  r = Relu(p)  s = Add(a, r)  t = Add(s, s)
          y = Conv(t, w) }""",
        w=W,
    )
    assert layout.layers == {"a", "y"}  # t adds what an Add made in float
    assert set(layout.scale_of) == {"x", "a", "t", "y"}


def test_an_add_of_what_a_convolution_reads_too_is_an_integer_layer() -> None:
    layout = plan(
        """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  p = AveragePool<kernel_shape = [1, 1]>(a)  b = Conv(p, w)  y = Add(p, b) }""",
        w=W,
    )
    assert layout.layers == {"a", "b", "y"}
    assert "p" in layout.scale_of  # b needs it in integers: the Add reads the same ones


def test_a_layer_in_float_takes_the_add_behind_it_along() -> None:
    text = """g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y)
        { a = Conv(x, w)  b = Conv(a, w)  s = Add(a, b)  y = Conv(s, w) }"""
    assert plan(text, w=W).layers == {"a", "b", "s", "y"}
    assert plan(text, ("b",), w=W).layers == {"a", "y"}
