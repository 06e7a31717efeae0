"""Let Concats and MaxPools that keep a scale move integers, in the file for x86."""

from __future__ import annotations

from collections import Counter

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

with extra("export"):
    from onnx import NodeProto, helper

_MOVES = ("Concat", "MaxPool")
_QUANTIZED, _DEQUANTIZED = "_quantized", "_dequantized"


def copy_integers(model: OnnxModel) -> OnnxModel:
    """Return an INT8 ``model`` without the Q/DQ pairs around Concats and MaxPools of one scale; the results are equal.

    ONNX Runtime removes those pairs itself. OpenVINO would round once more after each Concat and MaxPool, to the same
    values. Without such pairs ``model`` itself is returned.
    """
    graph = Graph(model)
    reads = Counter([*(name for node in graph.nodes for name in node.input), *graph.outputs])
    removed: set[str] = set()
    for node in graph.nodes:
        quantizer = graph.only_consumer(node.output[0]) if _moves(node) else None
        dequantizers = [graph.producers().get(name) for name in node.input]
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            continue
        if not all(before is not None and _same_parameters(graph, before, quantizer) for before in dequantizers):
            continue
        sources = [before.input[0] for before in dequantizers if before is not None]
        reads.subtract(node.input)
        removed.update([quantizer.output[0], *(name for name in node.input if not reads[name])])
        node.input[:], node.output[:] = sources, quantizer.output
    if not removed:
        return model
    return graph.with_nodes([node for node in graph.nodes if _moves(node) or removed.isdisjoint(node.output)])


def pair_copies(model: OnnxModel) -> OnnxModel:
    """Undo :func:`copy_integers`, to compare a file with its float graph tensor by tensor."""
    graph = Graph(model)
    nodes: list[NodeProto] = []
    made: set[str] = set()
    for node in graph.nodes:
        readers = graph.consumers().get(node.output[0], ())
        after = next((reader for reader in readers if reader.op_type == "DequantizeLinear"), None)
        if not _moves(node) or not node.output[0].endswith(_QUANTIZED) or after is None:
            nodes.append(node)
            continue
        parameters, output = after.input[1:], node.output[0]
        for index, name in enumerate(node.input):
            dequantized = f"{name.removesuffix(_QUANTIZED)}{_DEQUANTIZED}"
            if dequantized not in graph.producers() and dequantized not in made:
                nodes.append(helper.make_node("DequantizeLinear", [name, *parameters], [dequantized], dequantized))
                made.add(dequantized)
            node.input[index] = dequantized
        written = output.removesuffix(_QUANTIZED)
        node.output[0] = f"{written}_float" if written in graph.outputs else written  # as ``qdq`` names it
        nodes += [node, helper.make_node("QuantizeLinear", [node.output[0], *parameters], [output], output)]
    return graph.with_nodes(nodes) if len(nodes) > len(graph.nodes) else model


def _moves(node: NodeProto) -> bool:
    return node.op_type in _MOVES and len(node.output) == 1


def _same_parameters(graph: Graph, dequantizer: NodeProto, quantizer: NodeProto) -> bool:
    """Tell whether the quantizer restores the integers that the other node dequantizes. Not in int8, see ``qdq``."""
    if dequantizer.op_type != "DequantizeLinear" or dequantizer.input[0] in graph.constants:
        return False
    values = [[graph.constants.get(name) for name in node.input[1:]] for node in (dequantizer, quantizer)]
    known = [[value for value in pair if value is not None and value.size == 1] for pair in values]
    if any(len(pair) != 2 for pair in known) or known[1][1].dtype != "uint8":
        return False
    return all(one == other for one, other in zip(*known, strict=True))
