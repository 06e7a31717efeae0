"""Remove dead nodes, unused initializers, nodes without an effect, and unused opset imports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, Shape, attribute, bodies, captured

_STANDARD = ("", "ai.onnx")
_NEUTRAL = {"Mul": (1, True), "Div": (1, False), "Add": (0, True), "Sub": (0, False)}
"""The number that changes nothing, and whether it may be the first operand."""
_VIEWS = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def remove_dead(graph: Graph) -> int:
    """Remove nodes that no output depends on, unused initializers and unused opset imports; return how many."""
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if any(name in needed for name in node.output):
            needed.update(name for name in node.input if name)
            needed |= captured(node)
            kept.append(node)
    count = len(graph.nodes) - len(kept)
    graph.nodes = kept[::-1]
    unused = [name for name in graph.arrays if name not in needed]
    for name in unused:
        del graph.arrays[name]
    domains = {*_STANDARD, *_domains(graph.nodes)}
    foreign = [item for item in graph.header.opset_import if item.domain not in domains]
    for item in foreign:
        graph.header.opset_import.remove(item)
    return count + len(unused) + len(foreign)


def _domains(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield node.domain
        for body in bodies(node):
            yield from _domains(body.node)


def remove_identity(graph: Graph) -> int:
    """Remove nodes that return their input unchanged; return how many."""
    shapes = graph.shapes()
    names: dict[str, str] = {}
    gone = []
    for node in graph.nodes:
        source = _unchanged(node, graph, shapes)
        if source is not None and node.output[0] not in graph.kept:
            names[node.output[0]] = source
            gone.append(node)
    graph.remove(gone)
    graph.rewire(names)
    return len(gone) + _absorb_output_identities(graph)


def _absorb_output_identities(graph: Graph) -> int:
    """Remove each Identity that only names an output: the node before it writes that name."""
    producers, consumers = graph.producers(), graph.consumers()
    gone = []
    for node in graph.nodes:
        if node.op_type != "Identity" or node.output[0] not in graph.outputs:
            continue
        source = node.input[0]
        maker = producers.get(source)
        if maker is None or source in graph.kept or len(consumers[source]) != 1:
            continue
        maker.output[:] = [node.output[0] if name == source else name for name in maker.output]
        gone.append(node)
    graph.remove(gone)
    return len(gone)


def _unchanged(node: onnx.NodeProto, graph: Graph, shapes: Mapping[str, Shape]) -> str | None:
    """Return the tensor that ``node`` returns unchanged, None if it changes its input."""
    if node.op_type in _NEUTRAL:
        return _neutral_operand(node, graph, shapes)
    if node.op_type in _VIEWS and (source := _same_view(node, graph, shapes)) is not None:
        return source
    identity = node.op_type == "Identity"
    if node.op_type == "Transpose":
        perm = attribute(node, "perm", None)
        identity = perm is not None and list(perm) == list(range(len(perm)))
    elif node.op_type == "Pad":
        pads = graph.arrays.get(node.input[1])
        identity = pads is not None and not np.any(pads)
    elif node.op_type == "Reshape":
        # One free axis on each side, all others equal: the same shape.
        before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        identity = before is not None and before == after and before.count(None) <= 1
    return node.input[0] if identity else None


def _neutral_operand(node: onnx.NodeProto, graph: Graph, shapes: Mapping[str, Shape]) -> str | None:
    """Return ``x`` of ``x * 1``, ``x / 1``, ``x + 0`` or ``x - 0``; None if the constant is another or adds axes."""
    neutral, commutes = _NEUTRAL[node.op_type]
    for index, name in enumerate(node.input):
        constant, other = graph.arrays.get(name), node.input[1 - index]
        if constant is None or other in graph.arrays or not (index or commutes):
            continue
        if np.all(constant == neutral) and constant.size == 1 and constant.ndim <= len(shapes.get(other, ())):
            return str(other)
    return None


def _same_view(node: onnx.NodeProto, graph: Graph, shapes: Mapping[str, Shape]) -> str | None:
    """Return the tensor whose shape and values a chain of views ends with: ``(n, c, 1, 1)`` by way of ``(n, 1, 1, c)``.

    Every shape on the way begins with the batch and has one axis that is not 1, so no view changes the order.
    """
    producers, wanted = graph.producers(), shapes.get(node.output[0])
    made: onnx.NodeProto | None = node
    while made is not None and made.op_type in _VIEWS and _is_vector(shapes.get(made.output[0])):
        source = made.input[0]
        if shapes.get(source) == wanted and _is_vector(wanted):
            return str(source)
        made = producers.get(source)
    return None


def _is_vector(shape: Shape | None) -> bool:
    """Tell whether a tensor holds one row of numbers for each image."""
    return shape is not None and shape[:1] == (None,) and None not in shape[1:] and sum(n != 1 for n in shape[1:]) <= 1
