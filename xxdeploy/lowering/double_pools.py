"""Let a pool that is added to itself read integers of twice the scale, in the file that ships."""

from __future__ import annotations

import numpy as np

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

with extra("export"):
    from onnx import NodeProto, helper


def double_pools(model: OnnxModel) -> OnnxModel:
    """Return an INT8 ``model`` whose float ``pool(x) + pool(x)`` is a pool of ``2 x``, else ``model``: the same bits.

    One pair of each normal cell of NASNet is that sum (Zoph et al. 2018, arXiv:1707.07012, figure 4). Twice a float is
    exact, so the scale of the pool's own DequantizeLinear can hold it. The Relu behind goes too where the quantizer
    that follows clips at zero: a pool alone between pairs is one node in OpenVINO. The Sum of one operand keeps ONNX
    Runtime from running it in integers, which is slower (see :mod:`xxdeploy.quantize.qdq`).
    """
    graph = Graph(model)
    fronts: dict[str, list[NodeProto]] = {}
    inputs: dict[str, str] = {}
    gone: set[str] = set()
    for pool in graph.nodes:
        found = _doubled(graph, pool)
        if found is None:
            continue
        pair, total, quantizer = found
        stem, scale = pool.output[0], graph.constants[pair.input[1]]
        graph.arrays[f"{stem}_scale"] = np.asarray(2 * scale, scale.dtype)
        grid = [f"{stem}_scale", *pair.input[2:]]
        fronts[stem] = [
            helper.make_node("DequantizeLinear", [pair.input[0], *grid], [f"{stem}_doubled"], f"{stem}_doubled"),
            helper.make_node("Sum", [f"{stem}_doubled"], [f"{stem}_shield"], f"{stem}_shield"),
        ]
        inputs |= {stem: f"{stem}_shield", quantizer.output[0]: stem}
        gone |= {total.output[0], quantizer.input[0]}
    if not gone:
        return model
    nodes: list[NodeProto] = []
    for node in graph.nodes:
        if node.output[0] in gone:
            continue
        nodes += fronts.get(node.output[0], [])
        if node.output[0] in inputs:
            node.input[0] = inputs[node.output[0]]
        nodes.append(node)
    read = {name for node in nodes for name in node.input} | set(graph.outputs)
    return graph.with_nodes([node for node in nodes if read.intersection(node.output)])


def _doubled(graph: Graph, pool: NodeProto) -> tuple[NodeProto, NodeProto, NodeProto] | None:
    """Return what dequantizes the pool's input, the Add, and what quantizes the sum; None for any other pool."""
    readers = graph.consumers().get(pool.output[0], ()) if pool.op_type == "AveragePool" else ()
    kinds = {(id(node), node.op_type) for node in readers}
    pair = graph.producers().get(pool.input[0])
    if len(readers) != 2 or len(kinds) != 1 or readers[0].op_type != "Add" or pool.output[0] in graph.outputs:
        return None
    if pair is None or pair.op_type != "DequantizeLinear" or pair.input[1] not in graph.constants:
        return None
    total, behind = readers[0], graph.only_consumer(readers[0].output[0])
    if behind is not None and behind.op_type == "Relu":
        behind = graph.only_consumer(behind.output[0])
        if behind is None or len(behind.input) < 3:
            return None
        zero = graph.constants.get(behind.input[2])
        if zero is None or zero.dtype != "uint8" or int(zero.reshape(())):
            return None
    return None if behind is None or behind.op_type != "QuantizeLinear" else (pair, total, behind)
