"""Merge nodes that compute the same (common subexpression elimination)."""

from __future__ import annotations

import onnx

from xxdeploy.onnxmodel.graph import Graph, bodies
from xxdeploy.passes.fold_constants import RANDOM

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


def _equal_constants(graph: Graph) -> dict[str, str]:
    """Map each small constant to the first one with the same bits."""
    first: dict[tuple[object, ...], str] = {}
    names = {}
    for name, array in graph.arrays.items():
        if array.nbytes <= _SMALL and name not in graph.kept:
            names[name] = first.setdefault((array.dtype.str, array.shape, array.tobytes()), name)
    return {name: value for name, value in names.items() if name != value}
