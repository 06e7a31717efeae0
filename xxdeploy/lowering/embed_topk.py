"""Let a classifier give its best classes only, so that nothing has to be sorted on the device."""

from __future__ import annotations

import json

import numpy as np
import onnx

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime.engines.metadata import CLASSES_SUFFIX, TOP_K


def embed_topk(model: OnnxModel, count: int, classes: int) -> OnnxModel:
    """Return ``model`` with TopK behind its output, (n, classes) float32.

    The output keeps its name and is (n, count) float32, best first; ``NAME_classes`` is (n, count) int64, of equal ones
    the lower first. Metadata ``xxdeploy.top_k`` holds ``{"classes": ...}``.

    Raises
    ------
    ConversionError
        ``top-k-outputs``: several outputs, or another shape.
    """
    proto, arrays = model.split()
    graph = proto.graph
    shape = [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] if len(graph.output) == 1 else []
    if len(shape) != 2 or not 1 <= count <= classes:
        raise ConversionError(
            f"the best {count} of {classes} classes cannot be taken of outputs {[each.name for each in graph.output]}",
            hint="leave --top-k out",
            code="top-k-outputs",
        )
    (output,) = graph.output
    name, every, how_many = output.name, f"{output.name}_all", f"{output.name}_count"
    for node in graph.node:
        node.input[:] = [every if each == name else each for each in node.input]
        node.output[:] = [every if each == name else each for each in node.output]
    graph.node.append(
        onnx.helper.make_node("TopK", [every, how_many], [name, name + CLASSES_SUFFIX], name=f"{name}/top_k")
    )
    output.type.tensor_type.shape.dim[1].Clear()
    output.type.tensor_type.shape.dim[1].dim_value = count
    graph.output.append(graph.output[0])
    graph.output[1].name = name + CLASSES_SUFFIX
    graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    entry = proto.metadata_props.add()
    entry.key, entry.value = TOP_K, json.dumps({"classes": classes})
    return OnnxModel.join(proto, {**arrays, how_many: np.array([count], np.int64)})


def remove_topk(model: OnnxModel) -> OnnxModel:
    """Return a model of ``embed_topk`` as it was; any other as it is."""
    proto, arrays = model.split()
    graph = proto.graph
    found = next((entry for entry in proto.metadata_props if entry.key == TOP_K), None)
    last = graph.node[-1] if graph.node else None
    if found is None or last is None or last.op_type != "TopK" or len(graph.output) != 2:
        return model
    every, how_many = last.input
    name = last.output[0]
    graph.node.remove(last)
    for node in graph.node:
        node.input[:] = [name if each == every else each for each in node.input]
        node.output[:] = [name if each == every else each for each in node.output]
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = int(json.loads(found.value)["classes"])
    graph.output.pop()
    proto.metadata_props.remove(found)
    return OnnxModel.join(proto, {key: array for key, array in arrays.items() if key != how_many})
