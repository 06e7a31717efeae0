"""Let a pool that is added to itself read integers of twice the scale, in the file for x86."""

from __future__ import annotations

import numpy as np

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

with extra("export"):
    from onnx import NodeProto, helper


def double_pools(model: OnnxModel) -> OnnxModel:
    """Return an INT8 ``model`` whose float ``pool(x) + pool(x)`` is a pool of ``2 x``; the results are bit-identical.

    Each normal cell of NASNet has that sum (Zoph et al. 2018, arXiv:1707.07012, figure 4). Twice a float is exact, so
    the scale of the pool's own DequantizeLinear can hold the factor. A following Relu is removed, too, if the next
    quantizer clips at zero: OpenVINO runs a single pool between Q/DQ pairs as one node. A Sum of one operand keeps ONNX
    Runtime from running it in integers, which is slower (see :mod:`xxdeploy.quantize.qdq`). Without such a sum
    ``model`` itself is returned.
    """
    graph = Graph(model)
    fronts: dict[str, list[NodeProto]] = {}
    inputs: dict[str, str] = {}
    gone: set[str] = set()
    for pool in graph.nodes:
        around = _doubled(graph, pool)
        if around is None:
            continue
        dequantizer, total, quantizer = around
        stem, scale = pool.output[0], graph.constants[dequantizer.input[1]]
        graph.arrays[f"{stem}_scale"] = np.asarray(2 * scale, scale.dtype)
        parameters = [f"{stem}_scale", *dequantizer.input[2:]]
        fronts[stem] = [
            helper.make_node(
                "DequantizeLinear", [dequantizer.input[0], *parameters], [f"{stem}_doubled"], f"{stem}_doubled"
            ),
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
    """Return the dequantizer of the pool's input, the Add, and the quantizer of the sum; None for any other pool."""
    readers = graph.consumers().get(pool.output[0], ()) if pool.op_type == "AveragePool" else ()
    kinds = {(id(node), node.op_type) for node in readers}
    before = graph.producers().get(pool.input[0])
    if len(readers) != 2 or len(kinds) != 1 or readers[0].op_type != "Add" or pool.output[0] in graph.outputs:
        return None
    if before is None or before.op_type != "DequantizeLinear" or before.input[1] not in graph.constants:
        return None
    total, after = readers[0], graph.only_consumer(readers[0].output[0])
    if after is not None and after.op_type == "Relu":
        after = graph.only_consumer(after.output[0])
        if after is None or len(after.input) < 3:
            return None
        zero = graph.constants.get(after.input[2])
        if zero is None or zero.dtype != "uint8" or int(zero.reshape(())):
            return None
    return None if after is None or after.op_type != "QuantizeLinear" else (before, total, after)
