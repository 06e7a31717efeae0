"""What depends on no input is computed once, exactly as ONNX Runtime would; what does not fit an initializer stays."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from graphnets import NCHW, apply, network, parse, run_passes

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.fold_constants import fold_constants, fold_reshape
from xxdeploy.passes.remove_dead import remove_dead


@pytest.mark.parametrize(
    ("body", "weights", "count"),
    [
        ("t = Transpose(w) y = MatMul(x, t)", "float[5, 3] w", 1),
        ("t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t)", "float[5, 3] w", 1),
        ("t = Reshape(w, s) y = MatMul(x, t)", "float[5, 3] w, int64[2] s = {3, -1}", 1),
        ("t = Reshape(w, s) y = MatMul(x, t)", "float[3, 1, 5] w, int64[2] s = {0, 5}", 1),
        ("i = Identity(w) t = Squeeze(i, s) y = MatMul(x, t)", "float[3, 5, 1] w, int64[1] s = {-1}", 2),
        ("a = Sqrt(v) b = Add(a, e) t = Div(w, b) y = MatMul(x, t)",
         "float[3, 5] w, float[5] v = {0, 1, 2, 3, 4}, float e = {0.1}", 3),
        ("t = Cast<to = 1>(w) y = MatMul(x, t)", "int8[3, 5] w", 1),
        ("t = Mul(w, w) y = MatMul(x, t)", "float[3, 5] w", 1),
        ("t = Clip(w, , e) y = MatMul(x, t)", "float[3, 5] w, float e = {0.5}", 1),
        ("t = Concat<axis = 0>(w, w, w) y = MatMul(x, t)", "float[1, 5] w", 1),
        ("t = Slice(w, a, b, c, d) y = MatMul(x, t)",
         "float[9, 5] w, int64[1] a = {-1}, int64[1] b = {0}, int64[1] c = {0}, int64[1] d = {-3}", 1),
        ("t = ConstantOfShape<value = float[1] {2.5}>(s) y = MatMul(x, t)", "int64[2] s = {3, 5}", 1),
        ("s = Constant<value_ints = [3, 5]>() t = Expand(w, s) y = MatMul(x, t)", "float[5] w", 2),
    ],
)  # fmt: skip
def test_folded(body: str, weights: str, count: int) -> None:
    rewritten = apply(f"g (float[n, 3] x) => (float[n, 5] y) <{weights}> {{ {body} }}", fold_constants)
    assert rewritten.changed == (count,)
    assert rewritten.ops == {"MatMul": 1}
    assert all(array.dtype == np.float32 for array in rewritten.arrays.values())


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Relu(w)", "float[5] w"),  # an output keeps its node
        ("r = RandomNormal<shape = [5], seed = 1.0>() m = Mul(r, zero) y = Add(m, w)", "float[5] w, float zero = {0}"),
        ("a, b = Split(w) y = Concat<axis = 0>(b, a)", "float[6] w"),  # two outputs
        ("q = SequenceConstruct(w, w) y = ConcatFromSequence<axis = 0>(q)", "float[5] w"),
        ("d = DequantizeLinear(q, s) y = Relu(d)", "int8[5] q, float s = {0.5}"),  # stays 8 bit
    ],
)
def test_left(body: str, weights: str) -> None:
    rewritten = apply(f"g (float[n] x) => (float[m] y) <{weights}> {{ z = Relu(x) {body} }}", fold_constants)
    assert rewritten.changed == (0,)


def test_another_domain_is_left() -> None:
    text = "g (float[n] x) => (float[n] y) <float[1] w> { t = com.microsoft.Gelu(w) y = Add(x, t) }"
    header = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'
    assert apply(parse(text, header=header), fold_constants).changed == (0,)


def test_a_result_beyond_the_limit_is_left_a_view_is_not() -> None:
    def fold_small(graph: Graph) -> int:
        return fold_constants(graph, limit=100)

    text = """g (float[n, 30] x) => (float[n, 1] y) <float[1, 30] w, int64[2] s = {1, 30}>
    { t = Transpose(w) u = Expand(e, s) v = Transpose(u) a = MatMul(x, t) b = MatMul(x, v) y = Add(a, b) }"""
    rewritten = apply(text.replace("int64[2]", "float e = {2}, int64[2]"), fold_small)
    assert rewritten.changed == (1,)
    assert rewritten.ops["Transpose"] == 1


def test_a_view_is_not_copied() -> None:
    graph = Graph(parse("g (float[n, 3] x) => (float[n, 5] y) <float[5, 3] w> { t = Transpose(w) y = MatMul(x, t) }"))
    before = graph.arrays["w"]
    fold_constants(graph)
    assert np.shares_memory(graph.arrays["t"], before)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "double", "int64", "uint8", "bool"])
def test_the_type_stays(kind: str) -> None:
    text = f"""g (float[n] x) => (float[n] a, {kind}[1, 4] y) <{kind}[4, 1] w>
    {{ a = Relu(x) t = Transpose(w) y = Identity(t) }}"""
    rewritten = apply(text, fold_constants, same=kind != "bfloat16")
    assert rewritten.changed == (1,)
    wanted = ml_dtypes.bfloat16 if kind == "bfloat16" else "float64" if kind == "double" else kind
    assert rewritten.arrays["t"].dtype == wanted


def test_branches_are_not_entered() -> None:
    text = """g (bool c, float[n] x) => (float[n] y) <float[1] w>
    { e = Exp(w) y = If (c) <then_branch = a () => (float[n] p) { p = Add(x, e) },
                             else_branch = b () => (float[n] q) { q = Sub(x, e) }> }"""
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": np.ones(3, np.float32)}
        rewritten = apply(text, fold_constants, feeds=feeds)
        assert rewritten.changed == (1,)
        assert rewritten.ops == {"If": 1}
        assert list(rewritten.arrays) == ["e"]


def test_strings_survive() -> None:
    proto = parse("g (float[n] x) => (float[n] y) { y = Relu(x) }").proto()
    words = onnx.TensorProto(name="words", data_type=onnx.TensorProto.STRING, dims=[2], string_data=[b"a", b"bc"])
    proto.graph.initializer.append(words)
    proto.graph.node.append(onnx.helper.make_node("Identity", ["words"], ["same"]))
    proto.graph.node.append(onnx.helper.make_node("Identity", ["same"], ["out"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("out", onnx.TensorProto.STRING, [2]))
    rewritten = apply(OnnxModel.from_proto(proto), fold_constants, same=False)
    assert rewritten.changed == (1,)
    assert list(rewritten.arrays["same"]) == ["a", "bc"]


def test_fold_constants_computes_once_and_leaves_what_depends_on_the_input() -> None:
    body = "t = Transpose<perm=[3,2,0,1]>(k) s = Sqrt(v) w = Mul(t, s) y = Conv(x, w)"
    operators, (count,) = run_passes(network(NCHW, body, k=(3, 3, 3, 4), v=np.float32(2.0)), fold_constants)
    assert (operators, count) == (["Conv"], 3)


def test_a_target_computed_from_the_batch_size_becomes_constant() -> None:
    body = """s = Shape(x) b = Slice(s, zero, one, zero) t = Concat<axis=0>(b, rest) y = Reshape(x, t)"""
    signature = "(float[n,3,6,6] x) => (float[n,108] y)"
    arrays = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([108])}
    assert run_passes(network(signature, body, **arrays), fold_reshape, remove_dead)[0] == ["Reshape"]
