"""The last two passes: name every tensor after its Keras layer, then state its shape and check the graph."""

from __future__ import annotations

import onnx

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.wire import skeleton

_ROLES = {"Conv": ("", "weight", "bias"), "Gemm": ("", "weight", "bias"), "MatMul": ("weight", "weight")}


def name_tensors(graph: Graph) -> int:
    """Drop layout suffixes from tensors and name initializers after the node that reads them; return how many."""
    fixed = graph.kept | set(graph.inputs)
    names: dict[str, str] = {}
    taken = set(fixed | graph.inner)
    nodes: set[str] = set()

    def give(name: str, stem: str) -> None:
        names[name] = _unique(stem, taken)
        taken.add(names[name])

    for node in graph.nodes:
        for output in node.output:
            if output and output not in fixed:
                give(output, output.removesuffix("/nchw"))
    for node in graph.nodes:
        roles = _ROLES.get(node.op_type, ())
        node.name = _unique(node.name.removesuffix("/nchw"), nodes)  # a Transpose is named after its tensor
        nodes.add(node.name)
        for index, name in enumerate(node.input):
            if name in graph.arrays and name not in fixed and name not in names:
                role = roles[index] if index < len(roles) else f"constant_{index}"
                give(name, f"{node.name}/{role}")
    for name in graph.arrays:  # an unread initializer may not keep a name that another tensor got
        if name not in fixed and name not in names:
            give(name, name)
    graph.rename(names)
    return sum(old != new for old, new in names.items())


def _unique(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name


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
