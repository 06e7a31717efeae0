"""Equal nodes become one, and only they."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphnets import HEADER, apply, assert_same, parse, random_feeds, run

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.hoist_relu import hoist_relu
from xxdeploy.passes.merge_duplicates import merge_duplicates, with_shared_weights
from xxdeploy.passes.optimize import optimize
from xxdeploy.passes.remove_dead import remove_dead
from xxdeploy.runtime.engines.ort import OrtSession

GIVEN = "g (float[n, 3, 6, 6] x) => (float[n, 3, 6, 6] y)"


def test_equal_nodes_become_one_and_so_do_their_equal_readers() -> None:
    rewritten = apply(
        GIVEN + "{ a = Relu(x)  b = Relu(x)  c = Sigmoid(a)  d = Sigmoid(b)  y = Add(c, d) }", merge_duplicates
    )
    assert rewritten.changed == (2,)
    assert rewritten.ops == {"Relu": 1, "Sigmoid": 1, "Add": 1}
    assert list(rewritten.node("Add").input) == ["c", "c"]


def test_the_order_of_attributes_does_not_matter() -> None:
    source = parse(
        GIVEN
        + """{ a = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)
        b = AveragePool<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x)  y = Add(a, b) }"""
    )
    assert apply(source, merge_duplicates).changed == (1,)


@pytest.mark.parametrize(
    "body",
    [
        "a = LeakyRelu<alpha = 0.5>(x)  b = LeakyRelu<alpha = 0.25>(x)  y = Add(a, b)",  # attributes
        "a = LeakyRelu<alpha = 0.5>(x)  b = LeakyRelu(x)  y = Add(a, b)",
        "a = Relu(x)  b = Sigmoid(x)  y = Add(a, b)",  # operators
        "a = Relu(x)  b = Relu(a)  y = Add(a, b)",  # inputs
        "a = Sub(x, s)  b = Sub(s, x)  y = Mul(a, b)",
    ],
)
def test_what_differs_stays(body: str) -> None:
    text = f"g (float[n, 3, 6, 6] x) => (float[n, 3, 6, 6] y) <float[3, 1, 1] s> {{ {body} }}"
    rewritten = apply(text, merge_duplicates)
    assert rewritten.changed == (0,)


def test_nodes_with_different_numbers_of_outputs_stay() -> None:
    body = (
        "{ a, b, c = Split<axis = 1>(x)  d, e, f = Split<axis = 1>(x)  s = Add(a, e)  y = Concat<axis = 1>(s, c, f) }"
    )
    rewritten = apply(GIVEN + body, merge_duplicates)
    assert rewritten.changed == (1,)
    assert list(rewritten.node("Concat").input) == ["s", "c", "c"]
    one, two = "d = Dropout(x)", "e, m = Dropout(x)"
    assert apply(GIVEN + f"{{ {one}  {two}  y = Add(d, e) }}", merge_duplicates).changed == (0,)


def test_outputs_of_the_graph_keep_their_makers() -> None:
    rewritten = apply(
        "g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z, float[n, 4] w)"
        "{ y = Relu(x)  z = Relu(x)  a = Relu(x)  w = Neg(a) }",
        merge_duplicates,
    )
    assert rewritten.changed == (1,)
    assert list(rewritten.node("Neg").input) == ["y"]
    assert rewritten.ops == {"Relu": 2, "Neg": 1}


def test_random_numbers_are_drawn_twice() -> None:
    body = "{ a = RandomNormalLike<seed = 1.0>(x)  b = RandomNormalLike<seed = 1.0>(x)  y = Sub(a, b) }"
    rewritten = apply(GIVEN + body, merge_duplicates, same=False)
    assert rewritten.changed == (0,)
    assert rewritten.ops["RandomNormalLike"] == 2


def test_small_equal_constants_are_one_and_large_or_different_ones_are_not() -> None:
    text = (
        "g (float[n, 64] x) => (float[n, 64] y)"
        "<float six, float also, float[1] flat, float seven, float[64] v, float[64] w>"
        """{ a = Min(x, six)  b = Min(x, also)  c = Min(x, flat)  d = Min(x, seven)  e = Mul(x, v)  f = Mul(x, w)
        y = Sum(a, b, c, d, e, f) }"""
    )
    six = np.float32(6)
    rewritten = apply(
        text, merge_duplicates, six=six, also=six, flat=[6.0], seven=7.0, v=np.full(64, 0.5), w=np.full(64, 0.5)
    )
    assert rewritten.changed == (1,)  # 6, [6] and 7 are three; vectors are not looked at
    assert "also" not in rewritten.arrays
    assert list(rewritten.node("Sum").input) == ["a", "a", "c", "d", "e", "f"]


def test_zero_and_minus_zero_are_two() -> None:
    text = GIVEN + "<float p, float m> { a = Div(x, p)  b = Div(x, m)  c = Max(a, b)  y = Sign(c) }"
    assert apply(text, merge_duplicates, p=0.0, m=-0.0).changed == (0,)


BRANCHES = """
agraph (bool[1] flag, float[4] x) => (float[4] y) <float[4] one, float[4] same> {
  a = Relu(x)
  b = Relu(x)
  s = Add(x, one)
  r = Add(x, same)
  y = If (flag) <
    then_branch = yes () => (float[4] t) { u = Add(b, r)  v = Relu(x)  t = Add(u, v) },
    else_branch = no () => (float[4] e) { u = Sub(a, s)  w = Mul(u, same)  e = Identity(w) }
  >
}
"""


def test_bodies_read_what_they_read_before() -> None:
    source = parse(BRANCHES, one=np.ones(4), same=np.ones(4))
    after = apply(source, merge_duplicates, same=False).after
    old, new = (each.proto().graph for each in (source, after))
    (before,) = (node for node in old.node if node.op_type == "If")
    (nodes,) = (node for node in new.node if node.op_type == "If")
    assert [item.SerializeToString() for item in before.attribute] == [
        item.SerializeToString() for item in nodes.attribute
    ]
    for flag in (True, False):
        assert_same(source, after, {"flag": np.array([flag]), "x": np.array([1, -2, 3, -4], np.float32)})


def test_two_equal_ifs_stay() -> None:
    branch = "then_branch = yes () => (float[4] t{i}) {{ t{i} = Relu(x) }}, else_branch = no () => (float[4] e{i}) {{ e{i} = Neg(x) }}"  # noqa: E501
    text = "agraph (bool[1] flag, float[4] x) => (float[4] y) {"
    text += "".join(f"a{i} = If (flag) <{branch.format(i=0)}>\n" for i in (1, 2)) + "y = Add(a1, a2) }"
    proto = onnx.parser.parse_model(HEADER + text)
    graph = Graph(OnnxModel.from_proto(proto))
    assert merge_duplicates(graph) == 0


# Two nodes of a NASNet cell: separable convolutions, pools and identities behind a Relu of their own, added by twos;
# the next cell reads the Concat through Relus, too.
CELLS = (
    "g (float[n, 8, 8, 3] image) => (float[n, 5] y)"
    "<float[8, 3, 3, 3] stem_w, float[8] stem_b, float[8, 1, 3, 3] d1, float[8, 8, 1, 1] p1, float[8] p1_b,"
    " float[8, 1, 3, 3] d2, float[8, 8, 1, 1] p2, float[8] p2_b, float[8, 24, 1, 1] q1, float[8, 24, 1, 1] q2,"
    " float[5, 16] head_w, float[5] head_b, float zero, float six>"
    """{
  nchw = Transpose<perm = [0, 3, 1, 2]>(image)
  stem = Conv<pads = [1, 1, 1, 1]>(nchw, stem_w, stem_b)
  r1 = Relu(stem)  s1 = Conv<group = 8, pads = [1, 1, 1, 1]>(r1, d1)  t1 = Conv(s1, p1, p1_b)
  r2 = Relu(stem)  s2 = Conv<group = 8, pads = [1, 1, 1, 1]>(r2, d2)  t2 = Conv(s2, p2, p2_b)
  left = Add(t1, t2)
  pool = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(stem)
  again = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(stem)
  middle = Add(pool, again)
  peak = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(stem)
  right = Add(peak, stem)
  cell = Concat<axis = 1>(left, middle, right)
  u1 = Relu(cell)  v1 = Conv(u1, q1)
  u2 = Relu(cell)  v2 = Conv(u2, q2)
  c1 = Clip(v1, zero, six)  c2 = Clip(v2, zero, six)
  out = Concat<axis = 1>(c1, c2)
  end = Relu(out)
  mean = GlobalAveragePool(end)
  flat = Flatten(mean)
  y = Gemm<transB = 1>(flat, head_w, head_b)
}"""
)


def test_a_cell_of_nasnet() -> None:
    source = parse(CELLS, zero=0.0, six=6.0)
    rewritten = apply(source, merge_duplicates, hoist_relu, merge_duplicates, remove_dead)
    assert rewritten.changed[:3] == (3, 2, 0)  # r2, again, u2; then the Concats cell and out
    assert rewritten.ops["AveragePool"] == 1
    assert rewritten.ops["Relu"] == 1 + 3 + 2
    producers = {name: node for node in rewritten.after.proto().graph.node for name in node.output}
    for node in producers.values():
        if node.op_type == "Concat":
            assert {producers[name].op_type for name in node.input} == {"Relu"}


def test_optimize_on_the_cell_is_exact_and_settled() -> None:
    source = parse(CELLS, zero=0.0, six=6.0)
    after, records = optimize(source)
    changed = [record.facts["changed"] for record in records if record.step in ("merge_duplicates", "hoist_relu")]
    assert changed == [3, 2, 0]
    feed = random_feeds(source, 2)["image"]
    before = OrtSession(source.to_bytes(), optimize=False).run(feed)
    np.testing.assert_allclose(OrtSession(after.to_bytes(), optimize=False).run(feed), before, rtol=1e-5, atol=1e-5)
    again, records = optimize(after)
    assert not any(record.facts["changed"] for record in records if record.step in ("merge_duplicates", "hoist_relu"))
    assert run(again, {"image": feed})["y"].shape == (2, 5)


def test_layers_with_equal_weights_share_them() -> None:
    weights = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    bias = np.arange(4, dtype=np.float32)
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "v", "a"], ["p"]),
        onnx.helper.make_node("Gemm", ["y", "w", "b"], ["q"]),
        onnx.helper.make_node("MatMul", ["y", "u"], ["r"]),
        onnx.helper.make_node("Sum", ["p", "q", "r"], ["z"]),
    ]
    values = [onnx.helper.make_tensor_value_info(name, 1, ["n", 6 if name != "z" else 4]) for name in "xyz"]
    graph = onnx.helper.make_graph(nodes, "g", values[:2], values[2:])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    arrays = {"v": weights, "w": weights.copy(), "u": 2 * weights, "a": bias, "b": bias.copy()}
    shared = with_shared_weights(OnnxModel.join(proto, arrays))
    assert {name: array.shape for name, array in shared.split()[1].items()} == {"v": (6, 4), "u": (6, 4), "a": (4,)}
    assert with_shared_weights(shared) is shared
