"""One graph for passes, which edit it, and for everyone who only looks things up."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphnets import parse

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph, attribute, attributes, layer_name, set_attribute
from xxdeploy.onnxmodel.model import OnnxModel

TEXT = """g (float[n, 2] x) => (float[n, 2] y, float[n, 2] z) <float[2] w = {3, 4}, float[2] unused = {0, 0}> {
  two = Constant<value = float[2] {2, 2}>()
  a = Mul(x, w)
  b = Add(a, two)
  y = Relu(b)
  z = Mul(b, b)
}"""
IF = """g (bool c, float[n] x) => (float[n] y) {
  a = Relu(x)
  y = If(c) <then_branch = t () => (float[n] u) { u = Neg(a) }, else_branch = e () => (float[n] v) { v = Abs(a) }>
}"""


def node(graph: Graph, output: str) -> onnx.NodeProto:
    return graph.producers()[output]


def test_who_writes_reads_and_is_constant() -> None:
    graph = Graph(parse(TEXT))
    assert (graph.inputs, graph.outputs, graph.opset) == (("x",), ("y", "z"), 17)
    assert node(graph, "b").op_type == "Add"
    assert [reader.op_type for reader in graph.consumers()["b"]] == ["Relu", "Mul", "Mul"]
    assert {name: value.tolist() for name, value in graph.constants.items()} == {
        "two": [2, 2],
        "w": [3, 4],
        "unused": [0, 0],
    }
    assert graph.activations(node(graph, "b")) == ("a",)
    assert graph.floats == {"x", "a", "b", "y", "z"}
    assert graph.shapes()["a"] == (None, 2)
    assert graph.types()["y"] == onnx.TensorProto.FLOAT


def test_the_only_reader_of_a_tensor() -> None:
    graph = Graph(parse(TEXT))
    assert graph.only_consumer("a") is node(graph, "b")
    assert graph.only_consumer("b") is None  # several
    assert graph.only_consumer("y") is None  # an output


def test_unread_initializers_go_and_the_order_of_the_others_stays() -> None:
    model = parse(TEXT)
    again = Graph(model).to_model()
    assert list(again.split()[1]) == ["w"]
    assert Graph(again).to_model() == again


def test_indices_are_snapshots_and_follow_the_nodes() -> None:
    graph = Graph(parse(TEXT))
    before = graph.consumers()
    assert graph.consumers() is before
    graph.rewire({"b": "a"})
    assert [reader.op_type for reader in before["b"]] == ["Relu", "Mul", "Mul"]
    assert [reader.op_type for reader in graph.consumers()["a"]] == ["Add", "Relu", "Mul", "Mul"]
    graph.remove([node(graph, "b")])
    assert "b" not in graph.producers()
    node(graph, "y").input[0] = "x"
    graph.drop_indices()
    assert [reader.op_type for reader in graph.consumers()["x"]] == ["Mul", "Relu"]


def test_chains_of_new_names_are_followed() -> None:
    graph = Graph(parse(TEXT))
    graph.rewire({"b": "a", "a": "x"})
    assert list(node(graph, "y").input) == ["x"]


def test_names_are_taken_once() -> None:
    graph = Graph(parse(TEXT))
    assert [graph.fresh("a"), graph.fresh("a"), graph.fresh("new")] == ["a_2", "a_3", "new"]
    assert graph.add_array("w", np.zeros(2, np.float32)) == "w_2"


def test_what_a_body_reads_is_kept() -> None:
    graph = Graph(parse(IF))
    assert {"a", "y"} <= graph.kept
    assert graph.inner >= {"u", "v"}
    assert graph.only_consumer("a") is None


def test_an_initializer_among_the_inputs_is_none() -> None:
    proto = parse(TEXT).proto()
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2]))
    graph = Graph(OnnxModel.from_proto(proto))
    assert graph.inputs == ("x",)
    assert [value.name for value in graph.to_model().proto().graph.input] == ["x"]


def test_notes_and_stated_shapes() -> None:
    graph = Graph(OnnxModel.from_proto(onnx.shape_inference.infer_shapes(parse(TEXT).proto())))
    assert graph.header.graph.value_info
    graph.note("key", "value")
    after = graph.with_nodes(graph.nodes)
    assert not after.proto().graph.value_info
    again = Graph(after)
    assert again.take_note("key") == "value"
    assert again.take_note("key") is None
    assert not again.to_model().proto().metadata_props


def test_attributes_are_python_values() -> None:
    made = onnx.helper.make_node("Pad", ["x"], ["y"], mode="edge", pads=[1, 2])
    assert attributes(made) == {"mode": "edge", "pads": [1, 2]}
    assert attribute(made, "mode", "constant") == "edge"
    set_attribute(made, "mode", None)
    assert attribute(made, "mode", "constant") == "constant"
    assert layer_name(made) == "y"
    made.name = "layer"
    assert layer_name(made) == "layer"


def test_a_damaged_model_is_refused() -> None:
    with pytest.raises(ConversionError) as caught:
        Graph(OnnxModel(b"not a model"))
    assert caught.value.code == "unreadable-onnx"
