"""Let Concats and MaxPools that keep a scale move integers, in the file that ships."""

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
    """Return an INT8 ``model`` without the pairs around what moves integers of one scale, else ``model``: the same.

    ONNX Runtime makes the same of the pairs. OpenVINO would round once more behind each Concat and MaxPool, to the
    values that are there already.
    """
    graph = Graph(model)
    reads = Counter([*(name for node in graph.nodes for name in node.input), *graph.outputs])
    gone: set[str] = set()
    for node in graph.nodes:
        quantizer = graph.only_consumer(node.output[0]) if _moves(node) else None
        pairs = [graph.producers().get(name) for name in node.input]
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            continue
        if not all(pair is not None and _same_grid(graph, pair, quantizer) for pair in pairs):
            continue
        sources = [pair.input[0] for pair in pairs if pair is not None]
        reads.subtract(node.input)
        gone.update([quantizer.output[0], *(name for name in node.input if not reads[name])])
        node.input[:], node.output[:] = sources, quantizer.output
    if not gone:
        return model
    return graph.with_nodes([node for node in graph.nodes if _moves(node) or gone.isdisjoint(node.output)])


def pair_copies(model: OnnxModel) -> OnnxModel:
    """Undo :func:`copy_integers`: for who compares a file with its float graph, tensor by tensor."""
    graph = Graph(model)
    nodes: list[NodeProto] = []
    made: set[str] = set()
    for node in graph.nodes:
        readers = graph.consumers().get(node.output[0], ())
        after = next((reader for reader in readers if reader.op_type == "DequantizeLinear"), None)
        if not _moves(node) or not node.output[0].endswith(_QUANTIZED) or after is None:
            nodes.append(node)
            continue
        grid, output = after.input[1:], node.output[0]
        for index, name in enumerate(node.input):
            pair = f"{name.removesuffix(_QUANTIZED)}{_DEQUANTIZED}"
            if pair not in graph.producers() and pair not in made:
                nodes.append(helper.make_node("DequantizeLinear", [name, *grid], [pair], pair))
                made.add(pair)
            node.input[index] = pair
        node.output[0] = output.removesuffix(_QUANTIZED)
        nodes += [node, helper.make_node("QuantizeLinear", [node.output[0], *grid], [output], output)]
    return graph.with_nodes(nodes) if len(nodes) > len(graph.nodes) else model


def _moves(node: NodeProto) -> bool:
    return node.op_type in _MOVES and len(node.output) == 1


def _same_grid(graph: Graph, pair: NodeProto, quantizer: NodeProto) -> bool:
    """Tell whether this dequantizes what the other would give back, integer for integer. Not in int8, see ``qdq``."""
    if pair.op_type != "DequantizeLinear" or pair.input[0] in graph.constants:
        return False
    grids = [[graph.constants.get(name) for name in node.input[1:]] for node in (pair, quantizer)]
    known = [[value for value in grid if value is not None and value.size == 1] for grid in grids]
    if any(len(grid) != 2 for grid in known) or known[1][1].dtype != "uint8":
        return False
    return all(one == other for one, other in zip(*known, strict=True))
