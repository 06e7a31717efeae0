"""A model that shares another's weights is the same model as its bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel


def model_of(arrays: dict[str, np.ndarray]) -> OnnxModel:
    nodes, at = [], "image"
    for name in arrays:
        nodes.append(helper.make_node("Add", [at, name], [f"{name}_sum"], f"{name}_sum"))
        at = f"{name}_sum"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("image", at)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxModel.join(proto, arrays)


BASE = {"a": np.array([1, 2, 3, 4], np.float32), "b": np.array([0.0, -0.0, np.nan, 7], np.float32)}


def test_it_is_the_same_model() -> None:
    changed = model_of({**BASE, "c": np.ones(4, np.float32)})
    shared = changed.sharing(model_of(BASE))
    assert (shared.to_bytes(), shared.digest, shared.size) == (changed.to_bytes(), changed.digest, changed.size)
    assert shared.proto() == changed.proto()
    assert OnnxModel.join(*shared.split()).to_bytes() == changed.to_bytes()
    onnx.checker.check_model(shared.proto())


def test_only_what_differs_is_held_a_second_time() -> None:
    base = model_of(BASE)
    changed = model_of({"a": BASE["a"], "b": np.array([0.0, 0.0, np.nan, 7], np.float32)})
    shared = changed.sharing(base)
    own = np.frombuffer(base.to_bytes(), np.uint8)
    arrays = shared.split()[1]
    assert np.shares_memory(arrays["a"], own)
    assert not np.shares_memory(arrays["b"], own)
    assert not np.signbit(arrays["b"][1])


def test_what_is_split_off_may_be_edited() -> None:
    shared = model_of(BASE).sharing(model_of(BASE))
    proto, arrays = shared.split()
    del proto.graph.node[:]
    arrays.clear()
    assert shared.to_bytes() == model_of(BASE).to_bytes()


def test_it_cannot_be_changed() -> None:
    shared = model_of(BASE).sharing(model_of(BASE))
    with pytest.raises(AttributeError):
        shared.content = b"x"  # type: ignore[misc]


def test_an_empty_model_is_refused() -> None:
    with pytest.raises(ConversionError) as caught:
        OnnxModel(b"")
    assert caught.value.code == "empty-model"


def test_bytes_are_kept_as_they_are() -> None:
    content = model_of(BASE).to_bytes()
    model = OnnxModel(content)
    assert model.to_bytes() is content
    assert (model.size, model.digest) == (len(content), hashlib.sha256(content).hexdigest())
    assert model == model_of(BASE)
