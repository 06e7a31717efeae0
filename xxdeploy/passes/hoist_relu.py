"""Move a Relu before the Concat that it follows."""

from __future__ import annotations

import onnx

from xxdeploy.onnxmodel.graph import Graph


def hoist_relu(graph: Graph) -> int:
    """If one Relu is the only reader of a Concat, apply it to the inputs instead; return how many moved.

    The values are the same. In INT8 a range that starts at zero has up to twice the resolution, and a Relu after an Add
    or a convolution is free, since the quantizer there clips at zero anyway. A cell of NASNet ends in a Concat, and all
    later cells read it through a Relu.
    """
    count = 0
    while moved := _hoist(graph):  # a moved Relu may follow another Concat
        count += moved
    return count


def _hoist(graph: Graph) -> int:
    """Move each Relu by one Concat."""
    consumers = graph.consumers()
    count = 0
    nodes: list[onnx.NodeProto] = []
    moved: set[int] = set()
    for node in graph.nodes:
        if id(node) in moved:
            continue
        readers = consumers.get(node.output[0], []) if node.op_type == "Concat" else []
        if len(readers) != 1 or readers[0].op_type != "Relu" or node.output[0] in graph.kept:
            nodes.append(node)
            continue
        relu = readers[0]
        moved.add(id(relu))
        for index, name in enumerate(node.input):
            positive = graph.fresh(f"{relu.output[0]}/{index}")
            nodes.append(onnx.helper.make_node("Relu", [name], [positive], name=positive))
            node.input[index] = positive
        node.output[0] = relu.output[0]
        nodes.append(node)
        count += 1
    graph.nodes = nodes
    return count
