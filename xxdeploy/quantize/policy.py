"""What a target accepts in INT8, and how. Scheme says what is asked; this says what can be done.

The table is ONNX Runtime's CPU provider: which ``DequantizeLinear > op > QuantizeLinear`` groups it turns into integer
kernels (``QLinearConv``, ``QLinearAdd``, ...). Everything that is not listed stays in float, two operators on purpose:
Softmax, since eight bits of its output cannot tell 0.001 from 0.003, and AveragePool, whose integer kernel takes five
times as long as the float one and would round once more.
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
    ARITHMETIC = "activations only, with a scale of their own at the output"
    ACTIVATION = "Relu or Clip: free where the quantizer behind it already clips there"
    PASS = "moves or picks values: the output keeps the input's scale"
    FLOAT = "stays in float"


CPU: Mapping[str, Role] = {
    "Conv": Role.COMPUTE,
    "Gemm": Role.COMPUTE,
    "MatMul": Role.COMPUTE,
    "Add": Role.ARITHMETIC,
    "Mul": Role.ARITHMETIC,
    "Concat": Role.ARITHMETIC,
    "GlobalAveragePool": Role.ARITHMETIC,
    "Relu": Role.ACTIVATION,
    "Clip": Role.ACTIVATION,
    "MaxPool": Role.PASS,
    "Reshape": Role.PASS,
    "Flatten": Role.PASS,
    "Squeeze": Role.PASS,
    "Unsqueeze": Role.PASS,
    "Transpose": Role.PASS,
    "Slice": Role.PASS,
    "Pad": Role.PASS,
}


def role(graph: Graph, node: NodeProto, table: Mapping[str, Role] = CPU) -> Role:
    """Return the role that ``node`` can play, FLOAT where its operands rule the table's role out."""
    found = table.get(node.op_type, Role.FLOAT) if node.domain in ("", "ai.onnx") else Role.FLOAT
    if found is Role.FLOAT or any(name not in graph.floats for name in (*graph.activations(node)[:1], node.output[0])):
        return Role.FLOAT
    possible = {Role.COMPUTE: _has_weights, Role.ARITHMETIC: _has_exact_operands, Role.PASS: _keeps_range}.get(found)
    return found if possible is None or possible(graph, node) else Role.FLOAT


def weight_axis(node: NodeProto) -> int:
    """Return the axis of a COMPUTE node's weights that counts output channels."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and attributes(node).get("transB", 0) else 1


def _has_weights(graph: Graph, node: NodeProto) -> bool:
    """Weights and bias are constant and laid out as the integer kernels want them."""
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
    """Constant operands are single numbers, which an integer with its own scale holds exactly."""
    constants = [name for name in node.input if name in graph.constants]
    return len(constants) < len(node.input) and all(graph.constants[name].size == 1 for name in constants)


def _keeps_range(graph: Graph, node: NodeProto) -> bool:
    """Padding brings no value that the input's range does not hold: copies of the input, or zero.

    The smallest number is zero, too: the float graph pads with it where ONNX Runtime would do wrong with zero.
    """
    if node.op_type != "Pad" or attributes(node).get("mode", "constant") != "constant":
        return True
    if len(node.input) < 3 or not node.input[2]:
        return True
    value = graph.constants.get(node.input[2])
    return value is not None and bool(np.all(np.abs(value) <= np.finfo(np.float32).tiny))
