"""Tensors are named after the Keras layer that they belong to."""

from __future__ import annotations

from graphnets import NCHW, network, run_passes

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.passes.name_tensors import name_tensors


def test_names_come_from_nodes_and_nothing_else_changes() -> None:
    graph = network(NCHW, "[conv1] c = Conv(x, w) y = Relu(c)", w=(4, 3, 3, 3))
    run_passes(graph, name_tensors)
    named = Graph(graph)
    name_tensors(named)
    assert list(named.arrays) == ["conv1/weight"]
