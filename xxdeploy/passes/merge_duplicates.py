"""Merge nodes that compute the same (common subexpression elimination), and the weights of shared layers."""

from __future__ import annotations

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, bodies
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.fold_constants import RANDOM

_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "DequantizeLinear": 0}
"""Operators with weights, and their place among the inputs; a float layer's bias comes after them."""
_SMALL = 64
"""Largest constants, in bytes, that are compared: tf2onnx writes bounds, pads and shapes again for every node."""


def merge_duplicates(graph: Graph) -> int:
    """Let readers of equal nodes (operator, attributes, inputs) read the first of them; return how many were removed.

    NASNet applies a separate Relu before every branch that starts at the same tensor. Nodes with a kept output stay,
    and so do those that draw random numbers or hold bodies.
    """
    names: dict[str, str] = _equal_constants(graph)
    seen: dict[tuple[object, ...], onnx.NodeProto] = {}
    gone = []
    for node in graph.nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        if node.op_type in RANDOM or bodies(node):
            continue
        attributes = sorted(item.SerializeToString(deterministic=True) for item in node.attribute)
        key = (node.domain, node.op_type, tuple(node.input), len(node.output), *attributes)
        first = seen.setdefault(key, node)
        if first is node or any(name in graph.kept for name in node.output):
            continue
        names.update(zip(node.output, first.output, strict=True))
        gone.append(node)
    graph.remove(gone)
    return len(gone)


def share_weights(graph: Graph) -> int:
    """Let layers with equal weights read one array; return how many arrays were dropped.

    A siamese network applies one layer to several inputs. A batch normalization that is folded into it, or INT8, gives
    each of its nodes weights of its own, with equal values. Biases are shared only together with float weights.
    """
    first: dict[str, str] = {}
    by_kind: dict[tuple[object, ...], list[str]] = {}
    names: dict[str, str] = {}
    for node in graph.nodes:
        place = _WEIGHTS.get(node.op_type, len(node.input))
        weight = node.input[place] if place < len(node.input) else ""
        array = graph.arrays.get(weight)
        if array is None or array.ndim < 2 or array.nbytes <= _SMALL:
            continue
        biases = [name for name in node.input[2:3] if place == 1 and name in graph.arrays]
        known = by_kind.setdefault((array.dtype.str, array.shape, array.reshape(-1)[:8].tobytes()), [])
        same = next((name for name in known if name == weight or np.array_equal(graph.arrays[name], array)), None)
        if same is None:
            known.append(weight)
            first[weight] = biases[0] if biases else ""
            continue
        names[weight] = same
        if biases and first[same] and np.array_equal(graph.arrays[first[same]], graph.arrays[biases[0]]):
            names[biases[0]] = first[same]
    for node in graph.nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
    return sum(name != other for name, other in names.items())


def with_shared_weights(model: OnnxModel) -> OnnxModel:
    """Return a finished model whose layers with equal weights read one array; ``model`` itself if there are none."""
    graph = Graph(model)
    return graph.to_model() if share_weights(graph) else model


def _equal_constants(graph: Graph) -> dict[str, str]:
    """Map each small constant to the first one with the same bits."""
    first: dict[tuple[object, ...], str] = {}
    names = {}
    for name, array in graph.arrays.items():
        if array.nbytes <= _SMALL and name not in graph.kept:
            names[name] = first.setdefault((array.dtype.str, array.shape, array.tobytes()), name)
    return {name: value for name, value in names.items() if name != value}
