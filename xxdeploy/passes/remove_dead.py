"""Remove dead nodes, unused initializers, nodes without an effect, and unused opset imports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, Shape, attribute, bodies, captured

_STANDARD = ("", "ai.onnx")


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
        if not _is_identity(node, graph, shapes):
            continue
        if node.output[0] not in graph.kept:
            names[node.output[0]] = node.input[0]
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


def _is_identity(node: onnx.NodeProto, graph: Graph, shapes: Mapping[str, Shape]) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Transpose":
        perm = attribute(node, "perm", None)
        return perm is not None and list(perm) == list(range(len(perm)))
    if node.op_type == "Pad":
        pads = graph.arrays.get(node.input[1])
        return pads is not None and not np.any(pads)
    if node.op_type == "Reshape":
        # One free axis on each side, all others equal: the same shape.
        before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        return before is not None and before == after and before.count(None) <= 1
    return False
