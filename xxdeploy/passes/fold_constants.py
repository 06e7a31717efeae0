"""Compute once, at export, the nodes with constant inputs only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from xxdeploy.onnxmodel.graph import Graph, attribute

LIMIT = 64 << 20
"""Bytes. Views (Transpose, Reshape) are folded at any size; a computed result may not grow beyond this."""

_KEPT = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
_KEPT |= {"DequantizeLinear", "QuantizeLinear"}  # else 8-bit weights would become float


def fold_constants(graph: Graph) -> int:
    """Replace constant nodes by initializers; return how many."""
    opset = graph.header.opset_import
    folded = []
    for node in graph.nodes:
        if node.domain or node.op_type in _KEPT or len(node.output) != 1:
            continue
        if any(item.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for item in node.attribute):
            continue
        if node.output[0] in graph.outputs or not all(not name or name in graph.arrays for name in node.input):
            continue
        values = [graph.arrays[name] for name in node.input if name]
        result = _VIEWS[node.op_type](node, values) if node.op_type in _VIEWS else _compute(node, values, opset)
        if result is not None:
            graph.arrays[node.output[0]] = result
            folded.append(node)
    graph.remove(folded)
    return len(folded)


def _transpose(node: onnx.NodeProto, values: list[NDArray[Any]]) -> NDArray[Any]:
    return values[0].transpose(attribute(node, "perm", tuple(reversed(range(values[0].ndim)))))


def _reshape(node: onnx.NodeProto, values: list[NDArray[Any]]) -> NDArray[Any]:
    data, target = values
    if attribute(node, "allowzero", 0):
        return data.reshape(tuple(target))
    return data.reshape(tuple(data.shape[i] if size == 0 else int(size) for i, size in enumerate(target)))


_VIEWS: dict[str, Callable[[onnx.NodeProto, list[NDArray[Any]]], NDArray[Any]]] = {
    "Identity": lambda _, values: values[0],
    "Transpose": _transpose,
    "Reshape": _reshape,
}


def _compute(node: onnx.NodeProto, values: list[NDArray[Any]], opset: Any) -> NDArray[Any] | None:
    if sum(value.nbytes for value in values) > LIMIT:
        return None
    names = [name for name in node.input if name]
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in dict(zip(names, values, strict=True)).items()
    ]
    output = onnx.ValueInfoProto(name=node.output[0])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", inputs, [output]), opset_imports=list(opset)
    )
    (result,) = ReferenceEvaluator(model).run(None, dict(zip(names, values, strict=True)))
    if not isinstance(result, np.ndarray | np.generic):  # a sequence or a map is no initializer
        return None
    array = np.asarray(result)
    return array if array.nbytes <= LIMIT else None
