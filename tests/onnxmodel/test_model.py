"""A model that borrows another's weights is that model, for everyone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from xxdeploy.onnxmodel.model import OnnxModel, SharedModel


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
    shared = SharedModel.of(changed, model_of(BASE))
    assert (shared.data, shared.digest, shared.size) == (changed.data, changed.digest, changed.size)
    assert shared.proto() == changed.proto()
    assert OnnxModel.join(*shared.split()).data == changed.data
    onnx.checker.check_model(shared.proto())


def test_only_what_differs_is_held_a_second_time() -> None:
    base = model_of(BASE)
    changed = model_of({"a": BASE["a"], "b": np.array([0.0, 0.0, np.nan, 7], np.float32)})
    shared = SharedModel.of(changed, base)
    own = np.frombuffer(base.data, np.uint8)
    arrays = shared.split()[1]
    assert np.shares_memory(arrays["a"], own)
    assert not np.shares_memory(arrays["b"], own)
    assert not np.signbit(arrays["b"][1])


def test_what_is_split_off_may_be_edited() -> None:
    shared = SharedModel.of(model_of(BASE), model_of(BASE))
    proto, arrays = shared.split()
    del proto.graph.node[:]
    arrays.clear()
    assert shared.data == model_of(BASE).data


def test_it_cannot_be_changed() -> None:
    shared = SharedModel.of(model_of(BASE), model_of(BASE))
    with pytest.raises(AttributeError):
        shared.data = b""  # type: ignore[misc]
