"""The operators that a target runs in INT8, and how. ``Scheme`` is the request, this table is the support.

The table is that of ONNX Runtime's CPU provider: the ``DequantizeLinear > op > QuantizeLinear`` groups that it turns
into integer kernels (``QLinearConv``, ``QLinearAdd``, ...). All other operators stay in float, two of them on purpose:
Softmax, since eight bits of its output cannot tell 0.001 from 0.003, and AveragePool, because its integer kernel takes
five times as long as the float one and would round once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np

from xxdeploy.onnxmodel.graph import Graph, attributes
from xxdeploy.optional import extra

with extra("export"):
    from onnx import NodeProto


class Role(Enum):
    """How an operator takes part in an integer graph."""

    COMPUTE = "weights of its own: int8 per output channel, bias int32"
    ARITHMETIC = "activations only; the output has a scale of its own"
    ACTIVATION = "Relu or Clip: free if the next quantizer clips at the same place"
    PASS = "moves or picks values: the output keeps the input's scale"
    FLOAT = "stays in float"


CPU: Mapping[str, Role] = {
    **dict.fromkeys(("Conv", "Gemm", "MatMul"), Role.COMPUTE),
    **dict.fromkeys(("Add", "Mul", "Concat", "GlobalAveragePool"), Role.ARITHMETIC),
    **dict.fromkeys(("Relu", "Clip"), Role.ACTIVATION),
    **dict.fromkeys(("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Pad"), Role.PASS),
}


def role(graph: Graph, node: NodeProto, table: Mapping[str, Role] = CPU) -> Role:
    """Return the role of ``node``: that of the table, or FLOAT if its operands do not allow it."""
    listed = table.get(node.op_type, Role.FLOAT) if node.domain in ("", "ai.onnx") else Role.FLOAT
    if listed is Role.FLOAT or any(name not in graph.floats for name in (*graph.activations(node)[:1], node.output[0])):
        return Role.FLOAT
    allows = {Role.COMPUTE: _has_weights, Role.ARITHMETIC: _has_exact_operands, Role.PASS: _keeps_range}.get(listed)
    return listed if allows is None or allows(graph, node) else Role.FLOAT


def weight_axis(node: NodeProto) -> int:
    """Return the axis of the output channels in a COMPUTE node's weights."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and attributes(node).get("transB", 0) else 1


def _has_weights(graph: Graph, node: NodeProto) -> bool:
    """Tell whether weights and bias are constant and have the layout of the integer kernels."""
    if node.input[0] in graph.constants or any(name and name not in graph.constants for name in node.input[1:]):
        return False
    if node.op_type == "Gemm":
        values = attributes(node)
        plain = values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0 and not values.get("transA", 0)
        channels = graph.constants[node.input[1]].shape[weight_axis(node)]
        bias = graph.constants[node.input[2]].size if len(node.input) > 2 and node.input[2] else channels
        return plain and bias == channels
    return node.op_type == "Conv" or graph.constants[node.input[1]].ndim == 2


def _has_exact_operands(graph: Graph, node: NodeProto) -> bool:
    """Tell whether all constant operands are single numbers, which an integer with its own scale holds exactly."""
    constants = [name for name in node.input if name in graph.constants]
    return len(constants) < len(node.input) and all(graph.constants[name].size == 1 for name in constants)


def _keeps_range(graph: Graph, node: NodeProto) -> bool:
    """Tell whether the output holds only values of the input's range; a Pad adds copies of the input, or zero.

    The smallest normal number counts as zero: ``passes.fold_pad`` writes it to avoid a fault of ONNX Runtime.
    """
    if node.op_type != "Pad" or attributes(node).get("mode", "constant") != "constant":
        return True
    if len(node.input) < 3 or not node.input[2]:
        return True
    value = graph.constants.get(node.input[2])
    return value is not None and bool(np.all(np.abs(value) <= np.finfo(np.float32).tiny))
