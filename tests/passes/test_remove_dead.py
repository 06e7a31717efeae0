"""Nodes, weights and opsets that nothing reads go; names of outputs stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graphnets import SAME, apply, network, parse, run_passes

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.remove_dead import remove_dead, remove_identity


def test_remove_dead_drops_nodes_weights_and_foreign_opsets() -> None:
    proto = network(SAME, "dead = Mul(x, w) y = Relu(x)", w=(3, 1, 1)).proto()
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    graph = Graph(OnnxModel.from_proto(proto))
    assert remove_dead(graph) == 3
    after = graph.to_model().proto()
    assert [node.op_type for node in after.graph.node] == ["Relu"]
    assert [item.domain for item in after.opset_import] == [""]
    assert not after.graph.initializer


def test_remove_identity_keeps_the_names_of_outputs() -> None:
    body = "a = Identity(x) p = Pad(a, z) b = Relu(p) y = Identity(b)"
    operators, (count,) = run_passes(network(SAME, body, z=np.zeros(8, np.int64)), remove_identity)
    assert (operators, count) == (["Relu"], 3)


@pytest.mark.parametrize(
    "body", ["y = Mul(r, one)", "y = Mul(one, r)", "y = Div(r, one)", "y = Add(zero, r)", "y = Sub(r, zero)"]
)
def test_a_number_that_changes_nothing_goes(body: str) -> None:
    text = (
        f"g (float[n, 3, 4, 4] x) => (float[n, 3, 4, 4] z) <float one, float zero> {{ r = Relu(x) {body} z = Abs(y) }}"
    )
    result = apply(text, remove_identity, one=1.0, zero=0.0)
    assert result.changed == (1,)
    assert result.ops == {"Relu": 1, "Abs": 1}


@pytest.mark.parametrize(
    "body",
    [
        "y = Div(one, x)",
        "y = Sub(zero, x)",
        "y = Mul(x, half)",
        "y = Mul(x, five)",  # adds an axis
        "y = Mul(x, ones)",  # spreads one channel over many
    ],
)
def test_a_number_that_changes_something_stays(body: str) -> None:
    arrays: dict[str, Any] = {
        "one": 1.0,
        "zero": 0.0,
        "half": 0.5,
        "five": np.ones((1,) * 5),
        "ones": np.ones((1, 5, 1, 1)),
    }
    axes = "n, 5, 4, 4" if "ones" in body else "n, 1, 4, 4"
    axes = "1, n, 1, 4, 4" if "five" in body else axes
    text = f"g (float[n, 1, 4, 4] x) => (float[{axes}] y)"
    declared = "<float one, float zero, float half, float[1, 1, 1, 1, 1] five, float[1, 5, 1, 1] ones>"
    assert remove_identity(Graph(parse(f"{text} {declared} {{ r = Relu(x) {body.replace('x', 'r')} }}", **arrays))) == 0


POOLED = "g (float[n, 5, 4, 4] x) => (float[n, 5, 1, 1] y)"


@pytest.mark.parametrize(
    "body",
    [
        "f = Flatten(p) r = Reshape(f, t) q = Transpose<perm=[0, 3, 1, 2]>(r)",
        "f = Flatten(p) q = Reshape(f, u)",
        "f = Squeeze(p, a) q = Unsqueeze(f, a)",
    ],
)
def test_squeeze_and_excite_goes_a_long_way_for_nothing(body: str) -> None:
    text = POOLED + f" <int64[4] t, int64[4] u, int64[2] a> {{ p = GlobalAveragePool(x) {body} y = Relu(q) }}"
    arrays: dict[str, Any] = {"t": [-1, 1, 1, 5], "u": [-1, 5, 1, 1], "a": [2, 3]}
    result = apply(text, remove_identity, remove_dead, **arrays)
    assert result.ops == {"GlobalAveragePool": 1, "Relu": 1}


def test_a_view_that_changes_the_order_stays() -> None:
    text = """g (float[n, 2, 3, 1] x) => (float[n, 2, 3, 1] y) <int64[4] t>
    { a = Transpose<perm=[0, 2, 1, 3]>(x) b = Reshape(a, t) y = Relu(b) }"""
    assert apply(text, remove_identity, t=[-1, 2, 3, 1]).changed == (0,)
