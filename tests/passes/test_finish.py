"""Tensors are named after their Keras layer and have a stated shape; a graph that is wrong is refused."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import NCHW, apply, network, run_passes

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.passes.finish import infer_shapes, name_tensors


def test_names_come_from_nodes_and_nothing_else_changes() -> None:
    graph = network(NCHW, "[conv1] c = Conv(x, w) y = Relu(c)", w=(4, 3, 3, 3))
    run_passes(graph, name_tensors)
    named = Graph(graph)
    name_tensors(named)
    assert list(named.arrays) == ["conv1/weight"]


def test_every_inner_tensor_has_its_shape() -> None:
    rewritten = apply(network(NCHW, "c = Conv(x, w) y = Relu(c)", w=(4, 3, 3, 3)), infer_shapes)
    (stated,) = rewritten.after.proto().graph.value_info
    assert stated.name == "c"
    assert [dim.dim_value for dim in stated.type.tensor_type.shape.dim][1:] == [4, 4, 4]
    assert rewritten.changed == (1,)


def test_a_graph_that_is_not_valid_is_refused() -> None:
    graph = Graph(network(NCHW, "c = Conv(x, w) y = Relu(c)", w=(4, 3, 3, 3)))
    graph.arrays["w"] = np.zeros((4, 2, 3, 3), np.float32)
    graph.arrays["b"] = np.zeros(4, np.int64)
    graph.nodes[0].input.append("b")
    with pytest.raises(ConversionError) as caught:
        infer_shapes(graph)
    assert caught.value.code == "invalid-graph"
