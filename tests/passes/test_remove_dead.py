"""Nodes, weights and opsets that nothing reads go; names of outputs stay."""

from __future__ import annotations

import numpy as np
import onnx
from graphnets import SAME, network, run_passes

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
