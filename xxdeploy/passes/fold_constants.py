"""Compute once, at export, the nodes with constant inputs only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from xxdeploy.onnxmodel.graph import Graph, attribute, bodies

LIMIT = 64 << 20
"""Bytes. Views (Transpose, Reshape) are folded at any size; a computed result may not grow beyond this."""

RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
_KEPT = RANDOM | {"DequantizeLinear", "QuantizeLinear"}  # else 8-bit weights would become float


def fold_constants(graph: Graph, *, limit: int = LIMIT) -> int:
    """Replace constant nodes by initializers; return how many. ``limit`` is as :data:`LIMIT`."""
    opset = graph.header.opset_import
    folded = []
    for node in graph.nodes:
        if node.domain or node.op_type in _KEPT or len(node.output) != 1:
            continue
        if (
            bodies(node)
            or node.output[0] in graph.outputs
            or not all(not name or name in graph.arrays for name in node.input)
        ):
            continue
        values = [graph.arrays[name] for name in node.input if name]
        view = _VIEWS.get(node.op_type)
        value = _compute(node, values, opset, limit) if view is None else view(node, values)
        if value is not None:
            graph.arrays[node.output[0]] = value
            folded.append(node)
    graph.remove(folded)
    return len(folded)


def _transpose(node: onnx.NodeProto, values: list[NDArray[Any]]) -> NDArray[Any]:
    return values[0].transpose(attribute(node, "perm", tuple(reversed(range(values[0].ndim)))))


def _reshape(node: onnx.NodeProto, values: list[NDArray[Any]]) -> NDArray[Any]:
    tensor, target = values
    if attribute(node, "allowzero", 0):
        return tensor.reshape(tuple(target))
    return tensor.reshape(tuple(tensor.shape[i] if size == 0 else int(size) for i, size in enumerate(target)))


_VIEWS: dict[str, Callable[[onnx.NodeProto, list[NDArray[Any]]], NDArray[Any]]] = {
    "Identity": lambda _, values: values[0],
    "Transpose": _transpose,
    "Reshape": _reshape,
}


def _compute(node: onnx.NodeProto, values: list[NDArray[Any]], opset: Any, limit: int) -> NDArray[Any] | None:
    if sum(value.nbytes for value in values) > limit:
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
    (value,) = ReferenceEvaluator(model).run(None, dict(zip(names, values, strict=True)))
    if not isinstance(value, np.ndarray | np.generic):  # a sequence or a map is no initializer
        return None
    array = np.asarray(value)
    return array if array.nbytes <= limit else None


_SCALAR_STEPS = ("Cast", "Slice", "Gather", "Squeeze", "Unsqueeze", "Identity", "Reshape")


def fold_reshape(graph: Graph) -> int:
    """Replace a Reshape's target that is computed from the batch size by a constant; return how many.

    Keras computes ``(batch, 1, 1, 1024) -> (batch, 1024)`` from ``tf.shape``: Shape, Cast, Slice, Squeeze, Unsqueeze,
    Concat. If every other size is known, Reshape infers the computed one from -1.
    """
    producers, shapes = graph.producers(), graph.shapes()
    count = 0
    for node in graph.nodes:
        if node.op_type != "Reshape" or node.input[1] in graph.arrays:
            continue
        concat = _skip(producers, node.input[1], ("Cast", "Identity"))
        if concat is None or concat.op_type != "Concat":
            continue
        sizes: list[int] = []
        for part in concat.input:
            if part in graph.arrays:
                sizes.extend(int(size) for size in np.ravel(graph.arrays[part]))
                continue
            source = _skip(producers, part, _SCALAR_STEPS)
            single = shapes.get(part) == (1,)
            sizes.append(-1 if single and source is not None and source.op_type == "Shape" else -2)
        if sizes.count(-1) != 1 or min(sizes) < -1 or 0 in sizes:
            continue
        node.input[1] = graph.add_array(f"{node.name}/target", np.asarray(sizes, np.int64))
        count += 1
    return count


def _skip(producers: Mapping[str, onnx.NodeProto], name: str, steps: tuple[str, ...]) -> onnx.NodeProto | None:
    node = producers.get(name)
    while node is not None and node.op_type in steps:
        node = producers.get(node.input[0])
    return node
