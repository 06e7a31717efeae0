"""Weights in other files are found wherever ONNX lets a tensor be."""

from __future__ import annotations

import onnx
import pytest
import tiny_bundle
from onnx import helper

from xxdeploy.errors import EngineError
from xxdeploy.runtime.engines.external_data import has_external_data
from xxdeploy.runtime.engines.ort import OrtSession


def tensor(external: bool) -> onnx.TensorProto:
    made = helper.make_tensor("location", onnx.TensorProto.FLOAT, [1], [1.0])
    if external:
        made.ClearField("float_data")
        made.data_location = onnx.TensorProto.EXTERNAL
        made.external_data.add(key="location", value="weights.bin")
    return made


def in_initializer(model: onnx.ModelProto, made: onnx.TensorProto) -> None:
    model.graph.initializer.append(made)


def in_sparse_initializer(model: onnx.ModelProto, made: onnx.TensorProto) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=made, dims=[1]))


def in_constant(model: onnx.ModelProto, made: onnx.TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=made))


def in_list_of_tensors(model: onnx.ModelProto, made: onnx.TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], values=[made]))


def in_branch(model: onnx.ModelProto, made: onnx.TensorProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [made])
    outer = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=outer))


def in_function(model: onnx.ModelProto, made: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=made)
    model.functions.append(onnx.FunctionProto(name="f", domain="d", node=[node]))


def in_training(model: onnx.ModelProto, made: onnx.TensorProto) -> None:
    model.training_info.append(onnx.TrainingInfoProto(algorithm=onnx.GraphProto(initializer=[made])))


PLACES = [
    in_initializer,
    in_sparse_initializer,
    in_constant,
    in_list_of_tensors,
    in_branch,
    in_function,
    in_training,
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("external", [True, False])
def test_everywhere(place: object, external: bool) -> None:
    model = onnx.load_model_from_string(tiny_bundle.model_bytes())
    assert callable(place)
    place(model, tensor(external))
    assert has_external_data(model.SerializeToString()) is external


def test_a_flag_alone_is_enough() -> None:
    made = tensor(True)
    made.ClearField("data_location")
    model = onnx.load_model_from_string(tiny_bundle.model_bytes())
    model.graph.initializer.append(made)
    assert has_external_data(model.SerializeToString())


def test_a_tensor_named_location_still_runs() -> None:
    model = onnx.load_model_from_string(tiny_bundle.model_bytes())
    model.graph.name = "location"
    assert OrtSession(model.SerializeToString()).input_name == "image"


@pytest.mark.parametrize("content", [b"location", b"\x3alocation", b"\x3b\x00location", b"\xff" * 20 + b"location"])
def test_what_is_no_protobuf(content: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        has_external_data(content)
    with pytest.raises(EngineError) as caught:
        OrtSession(content)
    assert caught.value.code == "engine-load"
