"""Clip, global pooling, dense layers and batch norms, each found in the form in which tf2onnx spells it out."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import SAME, Result, apply, network, parse, run_passes

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.passes.fuse import (
    fuse_batch_norm,
    fuse_clip,
    fuse_gemm,
    fuse_global_pool,
    fuse_hard_sigmoid,
    fuse_pooled_gemm,
)
from xxdeploy.passes.remove_dead import remove_dead

BOUNDS = "float low = {-0.5}, float six = {6}, float[1] one = {1}"


def clip(body: str, extra: str = "", output: str = "float[n, 4] y", kind: str = "float") -> str:
    bounds = BOUNDS if kind == "float" else f"{kind} low = {{-1}}, {kind} six = {{6}}, {kind}[1] one = {{1}}"
    return f"g ({kind}[n, 4] x) => ({output}) <{bounds}{extra}> {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("a = Relu(x) y = Min(a, six)", (0, 6)),
        ("a = Relu(x) y = Min(six, a)", (0, 6)),
        ("a = Max(x, low) y = Min(a, one)", (-0.5, 1)),
        ("a = Max(low, x) y = Min(a, six)", (-0.5, 6)),
        ("a = Relu(x) y = Clip(a, , six)", (0, 6)),
        ("a = Relu(x) y = Clip(a, low, six)", (0, 6)),
    ],
)
def test_clip(body: str, wanted: tuple[float, float]) -> None:
    rewritten = apply(clip(body), fuse_clip)
    assert rewritten.changed == (1,)
    assert rewritten.ops == {"Clip": 1}
    _, low, high = rewritten.node("Clip").input
    assert (rewritten.arrays[low].item(), rewritten.arrays[high].item()) == wanted
    assert rewritten.arrays[low].shape == rewritten.arrays[high].shape == ()


@pytest.mark.parametrize(
    "body",
    [
        "a = Relu(x) b = Min(a, six) y = Add(a, b)",  # read twice
        "a = Relu(x) y = Clip(a)",  # no upper bound
        "a = Relu(x) y = Clip(a, low)",
        "a = Relu(x) y = Clip(a, one0, six)",  # the lower bound is above zero
        "a = Relu(x) y = Min(a, low)",  # the upper bound is below zero
        "a = Max(x, six) y = Min(a, low)",  # always low
        "a = Relu(x) b = ReduceMax<keepdims = 0>(x) y = Min(a, b)",  # no constant
        "a = Relu(x) b = ReduceMin<keepdims = 0>(x) y = Clip(a, b, six)",  # a bound that is computed
        "a = Relu(x) y = Min(a, six, one)",
        "a = Sigmoid(x) y = Min(a, one)",
        "a = Relu(x) y = Min(a, row)",  # a bound for each column
    ],
)
def test_not_a_clip(body: str) -> None:
    extra = ", float one0 = {1}, float[4] row"
    assert apply(clip(body, extra), fuse_clip).changed == (0,)


def test_clip_keeps_rank_outputs_and_types() -> None:
    assert apply(clip("a = Relu(x) y = Min(a, s)", ", float[1, 1, 1] s", "float[1, n, 4] y"), fuse_clip).changed == (0,)
    both = "float[n, 4] a, float[n, 4] y"
    assert apply(clip("a = Relu(x) y = Min(a, six)", "", both), fuse_clip).changed == (0,)
    for kind in ("double", "int32"):
        text = clip("a = Max(x, low) y = Min(a, six)", "", f"{kind}[n, 4] y", kind)
        assert apply(text, fuse_clip).changed == (0,)


@pytest.mark.parametrize("axes", ["[2, 3]", "[-1, -2]", "[3, 2]", "[2, -1]"])
@pytest.mark.parametrize(("reduce", "pool"), [("ReduceMean", "GlobalAveragePool"), ("ReduceMax", "GlobalMaxPool")])
def test_global_pool(axes: str, reduce: str, pool: str) -> None:
    text = f"""g (float[n, 3, 5, 4] x) => (float[n, 3] y, float[n, 3, 1, 1] z)
    {{ y = {reduce}<axes = {axes}, keepdims = 0>(x)  z = {reduce}<axes = {axes}>(x) }}"""
    rewritten = apply(text, fuse_global_pool)
    assert rewritten.changed == (2,)
    assert rewritten.ops == {pool: 2, "Flatten": 1}


@pytest.mark.parametrize(
    ("inputs", "output", "node"),
    [
        ("float[n, 3, 5, 4] x", "float[n, 4] y", "ReduceMean<axes = [1, 2], keepdims = 0>"),
        ("float[n, 3, 5, 4] x", "float[n, 1, 1, 1] y", "ReduceMean<axes = [1, 2, 3]>"),
        ("float[n, 3, 5, 4] x", "float[1, 1, 1, 1] y", "ReduceMean"),
        ("float[n, 3, 5, 4] x", "float[n, 3, 5, 1] y", "ReduceMax<axes = [3]>"),
        ("float[n, 3, 5, 4] x", "float[n, 3] y", "ReduceMin<axes = [2, 3], keepdims = 0>"),
        ("float[n, 3, 5, 4, 2] x", "float[n, 3, 1, 1, 2] y", "ReduceMean<axes = [2, 3]>"),
        ("int32[n, 3, 5, 4] x", "int32[n, 3, 1, 1] y", "ReduceMax<axes = [2, 3]>"),  # pooling has no integers
    ],
)
def test_not_a_global_pool(inputs: str, output: str, node: str) -> None:
    assert apply(f"g ({inputs}) => ({output}) {{ y = {node}(x) }}", fuse_global_pool).changed == (0,)


def dense(body: str, weights: str, output: str = "float[n, 5] y", inputs: str = "float[n, 3] x") -> str:
    return f"g ({inputs}) => ({output}) <float[3, 5] w, {weights}> {{ {body} }}"


@pytest.mark.parametrize("bias", ["float[5] b", "float[1, 5] b", "float b", "float[1, 1] b"])
@pytest.mark.parametrize("order", ["d, b", "b, d"])
def test_gemm(bias: str, order: str) -> None:
    rewritten = apply(dense(f"d = MatMul(x, w) y = Add({order})", bias), fuse_gemm)
    assert rewritten.changed == (1,)
    assert rewritten.ops == {"Gemm": 1}
    assert rewritten.arrays[rewritten.node("Gemm").input[2]].shape == (5,)


@pytest.mark.parametrize(
    ("body", "weights", "output", "inputs"),
    [
        ("d = MatMul(x, w) e = Add(d, b) y = Mul(d, e)", "float[5] b", "float[n, 5] y", "float[n, 3] x"),
        ("d = MatMul(x, w) y = Add(d, b)", "float[5] b", "float[n, 5] d, float[n, 5] y", "float[n, 3] x"),
        ("d = MatMul(x, w) y = Add(d, b)", "float[5] b", "float[n, 7, 5] y", "float[n, 7, 3] x"),
        ("d = MatMul(x, w) y = Add(d, b)", "float[2, 5] b", "float[2, 5] y", "float[2, 3] x"),
        ("d = MatMul(x, w) y = Add(d, b)", "float[1, 1, 1] b", "float[1, n, 5] y", "float[n, 3] x"),
        ("e = Exp(w) d = MatMul(x, e) y = Add(d, b)", "float[5] b", "float[n, 5] y", "float[n, 3] x"),
        ("d = MatMul(x, w) e = MatMul(x, w) y = Add(d, e)", "float[5] b", "float[n, 5] y", "float[n, 3] x"),
    ],
)
def test_not_a_gemm(body: str, weights: str, output: str, inputs: str) -> None:
    assert apply(dense(body, weights, output, inputs), fuse_gemm).changed == (0,)


def norm(body: str, weights: str, output: str = "float[n, 4, 3, 3] y", channels: int = 4) -> str:
    return f"g (float[n, {channels}, 3, 3] x) => ({output}) <{weights}> {{ {body} }}"


@pytest.mark.parametrize("weights", ["float[4, 1, 1] s, float[1, 4, 1, 1] t", "float[1, 4, 1, 1] s, float[4, 1, 1] t"])
@pytest.mark.parametrize("body", ["m = Mul(x, s) y = Add(m, t)", "m = Mul(s, x) y = Add(t, m)"])
def test_batch_norm(body: str, weights: str) -> None:
    rewritten = apply(norm(body, weights), fuse_batch_norm)
    assert rewritten.changed == (1,)
    assert rewritten.ops == {"BatchNormalization": 1}


@pytest.mark.parametrize(
    ("body", "weights", "output", "channels"),
    [
        ("m = Mul(x, s) y = Add(m, t)", "float s, float[4, 1, 1] t", "float[n, 4, 3, 3] y", 4),
        ("m = Mul(x, s) y = Add(m, t)", "float[4, 1, 1] s, float t", "float[n, 4, 3, 3] y", 4),
        ("m = Mul(x, s) y = Add(m, t)", "float[3] s, float[4, 1, 1] t", "float[n, 4, 3, 3] y", 4),
        ("m = Mul(x, s) y = Add(m, t)", "float[4, 1, 1] s, float[4, 1, 1] t", "float[n, 4, 3, 3] y", 1),  # spreads
        ("m = Mul(x, s) a = Add(m, t) y = Sub(a, m)", "float[4, 1, 1] s, float[4, 1, 1] t", "float[n, 4, 3, 3] y", 4),
        ("m = Mul(x, x) y = Add(m, t)", "float[4, 1, 1] t", "float[n, 4, 3, 3] y", 4),
        ("y = Add(x, t)", "float[4, 1, 1] t", "float[n, 4, 3, 3] y", 4),
        (
            "m = Mul(x, s) y = Add(m, t)",
            "float[4,1,1] s, float[4,1,1] t",
            "float[n, 4, 3, 3] m, float[n, 4, 3, 3] y",
            4,
        ),
    ],
)
def test_not_a_batch_norm(body: str, weights: str, output: str, channels: int) -> None:
    assert apply(norm(body, weights, output, channels), fuse_batch_norm).changed == (0,)


def test_a_chain_of_two_scales_is_one_batch_norm_and_one_scale() -> None:
    text = norm("a = Mul(x, s) m = Mul(a, s) y = Add(m, t)", "float[4, 1, 1] s, float[4, 1, 1] t")
    rewritten = apply(text, fuse_batch_norm)
    assert rewritten.ops == {"Mul": 1, "BatchNormalization": 1}
    scale = rewritten.arrays[rewritten.node("BatchNormalization").input[1]]
    np.testing.assert_array_equal(scale, Graph(parse(text)).arrays["s"].reshape(4))


def test_fuse_clip() -> None:
    graph = network(SAME, "a = Relu(x) y = Min(a, six)", six=np.float32(6))
    assert run_passes(graph, fuse_clip) == (["Clip"], [1])
    graph = network(SAME, "a = Max(x, low) y = Min(a, six)", low=np.float32(-1), six=np.float32(6))
    assert run_passes(graph, fuse_clip) == (["Clip"], [1])
    graph = network(SAME, "a = Relu(x) b = Min(a, six) y = Add(a, b)", six=np.float32(6))  # a is read twice
    assert run_passes(graph, fuse_clip)[1] == [0]


def test_fuse_gemm_and_global_pool() -> None:
    body = "m = ReduceMean<axes=[2,3], keepdims=0>(x) d = MatMul(m, w) y = Add(b, d)"
    graph = network("(float[n,3,6,6] x) => (float[n,5] y)", body, w=(3, 5), b=(5,))
    assert run_passes(graph, fuse_global_pool, fuse_gemm) == (["GlobalAveragePool", "Flatten", "Gemm"], [1, 1])
    graph = network("(float[n,3,6,6] x) => (float[n,h] y)", "y = ReduceMean<axes=[1,2], keepdims=0>(x)")
    assert run_passes(graph, fuse_global_pool)[1] == [0]


def test_a_scale_and_shift_without_a_layer_becomes_a_batch_norm() -> None:
    graph = network(SAME, "s = Mul(x, f) a = Add(s, t) y = Relu(a)", f=(3, 1, 1), t=(1, 3, 1, 1))
    assert run_passes(graph, fuse_batch_norm) == (["BatchNormalization", "Relu"], [1])


BODY = "p = GlobalAveragePool(x) c = Conv(p, w, b) y = Flatten(c)"
SIGNATURE = "(float[n,3,6,6] x) => (float[n,5] y)"


def test_a_classifier_over_one_position_becomes_a_gemm() -> None:
    operators, counts = run_passes(network(SIGNATURE, BODY, w=(5, 3, 1, 1), b=(5,)), fuse_pooled_gemm)
    assert (operators, counts) == (["GlobalAveragePool", "Flatten", "Gemm"], [1])


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("p = AveragePool<kernel_shape=[6,6]>(x) c = Conv(p, w) y = Flatten(c)", (5, 3, 1, 1)),  # no global pool
        ("p = GlobalAveragePool(x) c = Conv(p, w) f = Flatten(c) g = Flatten(c) y = Add(f, g)", (5, 3, 1, 1)),
        (
            "p = GlobalAveragePool(x) c = Conv<pads=[1,1,1,1]>(p, w) q = GlobalAveragePool(c) y = Flatten(q)",
            (5, 3, 3, 3),
        ),
    ],
)
def test_anything_else_stays(body: str, weights: tuple[int, ...]) -> None:
    assert run_passes(network(SIGNATURE, body, w=weights), fuse_pooled_gemm)[1] == [0]


HARD = "c = Clip(p, zero, six) y = {end}"


def hard(body: str, end: str = "Div(c, six)", shift: float = 3.0) -> Result:
    text = f"""g (float[n, 3, 6, 6] x) => (float[n, 3, 6, 6] y) <float zero, float six, float sixth, float t>
    {{ {body} {HARD.format(end=end)} }}"""
    return apply(text, fuse_hard_sigmoid, remove_dead, zero=0.0, six=6.0, sixth=1 / 6, t=shift)


@pytest.mark.parametrize("end", ["Div(c, six)", "Mul(c, sixth)", "Mul(sixth, c)"])
@pytest.mark.parametrize("shift", [3.0, 0.5])
def test_a_hard_sigmoid_is_one_operator(end: str, shift: float) -> None:
    result = hard("p = Add(x, t)", end, shift)
    assert result.changed[0] == 1
    assert result.ops == {"HardSigmoid": 1}


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("p = Add(x, t)", "Mul(c, six)"),  # does not end at 1
        ("p = Add(x, t)", "Div(six, c)"),
        ("p = Mul(x, t)", "Div(c, six)"),
        ("p = Add(x, x)", "Div(c, six)"),
        ("p = Add(x, t) d = Div(c, six)", "Add(d, p)"),  # another node reads the sum
    ],
)
def test_what_is_no_hard_sigmoid(body: str, end: str) -> None:
    first, _, rest = body.partition(" d = ")
    text = f"""g (float[n, 3, 6, 6] x) => (float[n, 3, 6, 6] y) <float zero, float six, float t>
    {{ {first} c = Clip(p, zero, six) {"d = " + rest if rest else ""} y = {end} }}"""
    assert fuse_hard_sigmoid(Graph(parse(text, zero=0.0, six=6.0, t=3.0))) == 0
