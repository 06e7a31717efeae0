"""Find Q/DQ that TensorRT refuses, or silently computes in float, and name the Keras layer.

This runs before the build: TensorRT's parser names a tensor at best, and accepts some of these graphs, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph, attributes, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.quantize.policy import weight_axis

with extra("export"):
    from onnx import NodeProto

_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid")
_PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of a graph for TensorRT: the name of the ``rule``, the Keras ``layer``, and a ``message``."""

    rule: str
    layer: str
    message: str


def lint_tensorrt(model: OnnxModel) -> tuple[Finding, ...]:
    """Return the faults of the Q/DQ of ``model`` for TensorRT, in graph order; a float model has none.

    Rules: ``zero-point`` (not 0), ``unsigned`` (uint8), ``scale`` (not positive and finite), ``weights-per-tensor``,
    ``weights-axis``, ``quantized-bias``, ``before-activation``, ``half-quantized`` (data or weights alone are INT8),
    ``integer-operator`` (such as QLinearConv).
    """
    graph = Graph(model)
    return tuple(finding for node in graph.nodes for finding in _findings(graph, node))


def check_tensorrt_layout(model: OnnxModel) -> None:
    """Refuse a model in which :func:`lint_tensorrt` finds faults.

    Raises ``ConversionError`` (``tensorrt-layout``: the message names the layers).
    """
    findings = lint_tensorrt(model)
    if not findings:
        return
    shown = "; ".join(f"{finding.layer}: {finding.message}" for finding in findings[:3])
    more = f" (and {len(findings) - 3} more)" if len(findings) > 3 else ""
    raise ConversionError(
        f"TensorRT cannot run this INT8 graph as INT8: {shown}{more}",
        hint="export it with --target tensorrt or tensorrt-rtx, which quantizes it for TensorRT (static-w8c-a8s)",
        code="tensorrt-layout",
    )


def _findings(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    if node.op_type in _PAIR:
        yield from _of_pair(graph, node)
    elif node.op_type.startswith("QLinear") or node.op_type in ("ConvInteger", "MatMulInteger"):
        yield _finding(graph, node, "integer-operator", f"TensorRT has no operator {node.op_type}; it reads Q/DQ pairs")
    elif node.op_type in _COMPUTE:
        yield from _of_layer(graph, node)
    elif node.op_type in _ACTIVATIONS and node.input:
        yield from _of_activation(graph, node)


def _of_pair(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    if node.op_type == "DequantizeLinear" and node.input[0] in graph.producers():
        return  # its quantizer has been checked
    scale = graph.constants.get(node.input[1])
    if scale is None or not np.all(np.isfinite(scale) & (scale > 0)):
        yield _finding(graph, node, "scale", f"the scale {node.input[1]!r} is not constant, positive and finite")
    if len(node.input) < 3 or not node.input[2]:
        if node.op_type == "QuantizeLinear" and "output_dtype" not in attributes(node):
            yield _finding(graph, node, "unsigned", "it is quantized to uint8; TensorRT accepts int8 only")
        return
    zero = graph.constants.get(node.input[2])
    if zero is None or np.any(zero):
        problem = "is not constant" if zero is None else f"is {zero.reshape(-1)[np.flatnonzero(zero)[0]]}, not 0"
        yield _finding(graph, node, "zero-point", f"the zero point of {node.input[0]!r} {problem}")
    if zero is not None and zero.dtype not in (np.int8, np.int32):
        yield _finding(
            graph, node, "unsigned", f"{node.input[0]!r} is quantized to {zero.dtype}; TensorRT accepts int8 only"
        )


def _of_layer(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    activation, weights = (_dequantized(graph, name) for name in node.input[:2])
    if activation is None and weights is None:
        return
    if activation is None or weights is None:
        alone = "the weights are" if activation is None else "the data is"
        yield _finding(graph, node, "half-quantized", f"only {alone} INT8, so it would be computed in float")
    if weights is not None and weights.input[0] in graph.constants:
        scale = graph.constants.get(weights.input[1], np.ones(1))
        values, axis = graph.constants[weights.input[0]], weight_axis(node)
        if scale.size == 1 and values.shape[axis] != 1:
            yield _finding(
                graph, node, "weights-per-tensor", "all weights have one scale; each output channel needs its own"
            )
        elif scale.size > 1 and attributes(weights).get("axis", 1) % max(values.ndim, 1) != axis:
            yield _finding(
                graph, node, "weights-axis", f"the scales of the weights are not along axis {axis}, the output channels"
            )
    if len(node.input) > 2 and node.input[2] and _dequantized(graph, node.input[2]) is not None:
        yield _finding(graph, node, "quantized-bias", "the bias is INT32; TensorRT accepts float only")


def _of_activation(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    """Find a Q/DQ pair between a layer and its only reader, an activation."""
    dequantize = _dequantized(graph, node.input[0])
    quantize = None if dequantize is None else graph.producers().get(dequantize.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return
    made = graph.producers().get(quantize.input[0])
    if made is not None and made.op_type in _COMPUTE and graph.only_consumer(quantize.input[0]) is quantize:
        if graph.only_consumer(dequantize.output[0] if dequantize is not None else "") is not node:
            return  # others read the layer itself, in integers
        yield _finding(graph, made, "before-activation", f"a Q/DQ pair stands between it and {layer_name(node)}")


def _dequantized(graph: Graph, name: str) -> NodeProto | None:
    node = graph.producers().get(name)
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _finding(graph: Graph, node: NodeProto, rule: str, message: str) -> Finding:
    return Finding(rule, _keras_layer(graph, node), message)


def _keras_layer(graph: Graph, node: NodeProto) -> str:
    """Return the Keras layer of a node, whose name is ``layer/operator``. A pair belongs to the layer that reads it."""
    todo, seen = [node], set[str]()
    while todo:
        reader = todo.pop(0)
        if reader.op_type not in _PAIR:
            return layer_name(reader).rpartition("/")[0] or layer_name(reader)
        if reader.output[0] in seen:
            continue
        seen.add(reader.output[0])
        todo += graph.consumers().get(reader.output[0], ())
    return layer_name(node)
