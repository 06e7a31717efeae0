"""Write the shape of every tensor into the graph, and check the graph with ONNX's checker."""

from __future__ import annotations

import onnx

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.wire import skeleton


def infer_shapes(graph: Graph) -> int:
    """Fill ``value_info``; return how many tensors have a known shape.

    Raises ``ConversionError`` (``invalid-graph``) if ONNX's checker or shape inference refuses the graph.
    """
    graph.forget_shapes()
    small = skeleton(graph.proto(), graph.arrays)
    try:
        onnx.checker.check_model(small)
        inferred = onnx.shape_inference.infer_shapes(small, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the graph is not valid ONNX: {str(error).strip().splitlines()[0][:300]}",
            hint="this is a fault of xxdeploy or tf2onnx, not of your model; please report it with the model",
            code="invalid-graph",
        ) from error
    made = {name for node in graph.nodes for name in node.output} - set(graph.outputs)
    known = graph.header.graph.value_info
    known.extend(value for value in inferred.graph.value_info if value.name in made)
    return len(known)
