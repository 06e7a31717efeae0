"""A Relu behind a Concat goes in front of it, where nothing else reads the Concat."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import apply, assert_same, parse

from xxdeploy.passes.hoist_relu import hoist_relu
from xxdeploy.passes.merge_duplicates import merge_duplicates

GIVEN = "g (float[n, 3, 4, 4] x, float[n, 3, 4, 4] z)"


@pytest.mark.parametrize("axis", [0, 1, 3, -2])
def test_a_relu_moves(axis: int) -> None:
    shape = [["n", 3, 4, 4][i] for i in range(4)]
    shape[axis] = "m"
    text = GIVEN + f"=> (float[{', '.join(map(str, shape))}] y) {{ c = Concat<axis = {axis}>(x, z)  y = Relu(c) }}"
    rewritten = apply(text, hoist_relu)
    assert rewritten.changed == (1,)
    assert [node.op_type for node in rewritten.after.proto().graph.node] == ["Relu", "Relu", "Concat"]
    assert list(rewritten.node("Concat").output) == ["y"]  # the name lives on


def test_readers_of_the_relu_stay_as_they_are() -> None:
    text = (
        GIVEN
        + """=> (float[n, 6, 4, 4] y)
        { a = Neg(x)  c = Concat<axis = 1>(a, z)  r = Relu(c)  s = Neg(r)  t = Abs(r)  u = Add(a, a)
        v = Concat<axis = 1>(u, u)  w = Add(s, t)  y = Add(w, v) }"""
    )
    rewritten = apply(text, hoist_relu)
    assert rewritten.changed == (1,)
    assert [list(node.input) for node in rewritten.after.proto().graph.node if node.op_type in ("Neg", "Abs")] == [
        ["x"], ["r"], ["r"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "c = Concat<axis = 1>(x, z)  r = Relu(c)  y = Add(r, c)",  # two readers
        "c = Concat<axis = 1>(x, z)  r = Relu(c)  s = Relu(c)  y = Add(r, s)",
        "c = Concat<axis = 1>(x, z)  y = LeakyRelu(c)",
        "c = Concat<axis = 1>(x, z)  n = Neg(c)  y = Relu(n)",
    ],
)
def test_what_stays(body: str) -> None:
    assert apply(GIVEN + f"=> (float[n, 6, 4, 4] y) {{ {body} }}", hoist_relu).changed == (0,)


def test_a_concat_that_is_an_output_stays() -> None:
    rewritten = apply(
        GIVEN + "=> (float[n, 6, 4, 4] y, float[n, 6, 4, 4] c) { c = Concat<axis = 1>(x, z)  y = Relu(c) }", hoist_relu
    )
    assert rewritten.changed == (0,)


def test_a_concat_that_a_body_reads_stays() -> None:
    text = """agraph (bool[1] flag, float[2, 4] x) => (float[4, 4] y, float[4, 4] r) {
      c = Concat<axis = 0>(x, x)
      r = Relu(c)
      y = If (flag) <then_branch = yes () => (float[4, 4] t) { t = Neg(c) },
                     else_branch = no () => (float[4, 4] e) { e = Identity(c) }>
    }"""
    source = parse(text)
    rewritten = apply(source, hoist_relu, same=False)
    assert rewritten.changed == (0,)
    assert_same(source, rewritten.after, {"flag": np.array([True]), "x": -np.ones((2, 4), np.float32)})


def test_nested_concats_and_a_tensor_that_is_joined_twice() -> None:
    text = (
        GIVEN
        + """=> (float[n, m, 4, 4] y)
        { a = Neg(x)  inner = Concat<axis = 1>(a, z)  outer = Concat<axis = 1>(inner, x, x)  y = Relu(outer) }"""
    )
    rewritten = apply(text, hoist_relu, hoist_relu, merge_duplicates)
    assert rewritten.changed == (2, 0, 1)  # through both at once; x twice needs one Relu only
    kinds = [node.op_type for node in rewritten.after.proto().graph.node]
    assert sorted(kinds) == ["Concat", "Concat", "Neg", "Relu", "Relu", "Relu"]
    assert kinds[-1] == "Concat"


def test_relus_in_a_row_and_several_concats() -> None:
    text = (
        GIVEN
        + """=> (float[n, 6, 4, 4] y)
        { c = Concat<axis = 1>(x, z)  r = Relu(c)  s = Relu(r)  d = Concat<axis = 1>(z, x)  t = Relu(d)
        y = Add(s, t) }"""
    )
    rewritten = apply(text, hoist_relu, merge_duplicates)
    assert rewritten.changed[0] >= 2
    assert "y" in {name for node in rewritten.after.proto().graph.node for name in node.output}


def test_names_that_are_taken_are_left_alone() -> None:
    text = (
        GIVEN
        + """=> (float[n, 6, 4, 4] y, float[n, 3, 4, 4] _0)
        { _0 = Neg(x)  c = Concat<axis = 1>(x, z)  y = Relu(c) }"""
    )
    source = parse(text).proto()
    for node in source.graph.node:
        node.output[:] = ["y/0" if name == "_0" else name for name in node.output]
    source.graph.output[1].name = "y/0"
    rewritten = apply(type(parse(text)).from_proto(source), hoist_relu)
    names = [name for node in rewritten.after.proto().graph.node for name in node.output]
    assert len(names) == len(set(names))
