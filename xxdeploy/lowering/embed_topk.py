"""Let a classifier return its top classes only, so that the device sorts nothing."""

from __future__ import annotations

import json

import numpy as np
import onnx

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime.engines.metadata import CLASSES_SUFFIX, TOP_K


def embed_topk(model: OnnxModel, count: int, classes: int) -> OnnxModel:
    """Return ``model`` with a TopK after its output, (n, classes) float32.

    The output keeps its name and becomes (n, count) float32, the largest first; ``NAME_classes`` is (n, count) int64,
    among equal values the lower class first. Metadata ``xxdeploy.top_k`` holds ``{"classes": ...}``. Raises
    ``ConversionError`` (``top-k-outputs``: the model has several outputs, or one of another shape).
    """
    proto, arrays = model.split()
    graph = proto.graph
    shape = [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] if len(graph.output) == 1 else []
    if len(shape) != 2 or not 1 <= count <= classes:
        raise ConversionError(
            f"--top-k {count} of {classes} classes does not fit the outputs {[value.name for value in graph.output]}",
            hint="leave --top-k out",
            code="top-k-outputs",
        )
    (output,) = graph.output
    name, every, how_many = output.name, f"{output.name}_all", f"{output.name}_count"
    for node in graph.node:
        node.input[:] = [every if tensor == name else tensor for tensor in node.input]
        node.output[:] = [every if tensor == name else tensor for tensor in node.output]
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
    """Undo :func:`embed_topk`; return any other model as it is."""
    proto, arrays = model.split()
    graph = proto.graph
    noted = next((entry for entry in proto.metadata_props if entry.key == TOP_K), None)
    last = graph.node[-1] if graph.node else None
    if noted is None or last is None or last.op_type != "TopK" or len(graph.output) != 2:
        return model
    every, how_many = last.input
    name = last.output[0]
    graph.node.remove(last)
    for node in graph.node:
        node.input[:] = [name if tensor == every else tensor for tensor in node.input]
        node.output[:] = [name if tensor == every else tensor for tensor in node.output]
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = int(json.loads(noted.value)["classes"])
    graph.output.pop()
    proto.metadata_props.remove(noted)
    return OnnxModel.join(proto, {key: array for key, array in arrays.items() if key != how_many})
