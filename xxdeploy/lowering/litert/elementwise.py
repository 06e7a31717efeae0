"""Operators that work element by element, and the softmax."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from xxdeploy.lowering.litert.values import ACTIVATIONS, Sink, Value, Values, refuse
from xxdeploy.onnxmodel.graph import attribute

_BINARY = {
    "Add": "ADD",
    "Sum": "ADD",
    "Sub": "SUB",
    "Mul": "MUL",
    "Div": "DIV",
    "Max": "MAXIMUM",
    "Min": "MINIMUM",
    "Pow": "POW",
}
_INTEGER = ("Add", "Sub", "Mul")
_FUSING = ("Add", "Sum", "Sub", "Mul", "Div")
_UNARY = {
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
    "Exp": "EXP",
    "Log": "LOG",
    "Sqrt": "SQRT",
    "Abs": "ABS",
    "Neg": "NEG",
    "Floor": "FLOOR",
    "HardSwish": "HARD_SWISH",
    "Ceil": "CEIL",
    "Round": "ROUND",
    "Sign": "SIGN",
    "Cos": "COS",
    "Sin": "SIN",
}


def binary(values: Values, node: NodeProto) -> None:
    """Write an operator of operands that may broadcast, usually two."""
    if len(node.input) == 1:
        values.keep(node.output[0], values.real(node.input[0]))
        return
    if len(node.input) > 2:
        _several(values, node)
        return
    if node.op_type == "Pow" and (name := _power(values, node)) is not None:
        x = values.real(node.input[0])
        values.flat.operator(name, [x.index], [values.result(Sink(node.output[0], None), x.order).index])
        return
    sink = values.integer_sink(node.output[0]) if node.op_type in _INTEGER and _all_integer(values, node) else None
    if sink is None:
        order, operands = values.aligned(node, node.input)
    else:
        rank = len(values.shape(node.output[0]))
        lead = next((n for n in node.input if values.weights(n) is None and len(values.shape(n)) == rank), None)
        if lead is None:
            raise refuse(node, "no operand has the shape of the result")
        order = values.integer(lead).order
        operands = [values.operand(name, order, integer=True) for name in node.input]
    target = sink or (values.float_sink(node.output[0]) if node.op_type in _FUSING else Sink(node.output[0], None))
    out = values.result(target, order)
    options = {"fusedActivationFunction": target.activation} if node.op_type in _FUSING else {}
    if node.op_type in ("Add", "Sum", "Sub"):
        options["potScaleInt16"] = False
    version = 2 if sink is not None or node.op_type in ("Max", "Min") else 1
    values.flat.operator(_BINARY[node.op_type], [x.index for x in operands], [out.index], version, **options)


def _power(values: Values, node: NodeProto) -> str | None:
    """Return the operator of a square or a square root, which XNNPACK has; it has no POW."""
    exponent = values.weights(node.input[1])
    if exponent is None or exponent.array.size != 1 or values.shape(node.input[0]) != values.shape(node.output[0]):
        return None
    return {2.0: "SQUARE", 0.5: "SQRT"}.get(float(exponent.real.reshape(())))


def _several(values: Values, node: NodeProto) -> None:
    """Write a Sum, Max or Min of three or more operands one after the other, in float."""
    order, operands = values.aligned(node, node.input)
    target = values.float_sink(node.output[0]) if node.op_type in _FUSING else Sink(node.output[0], None)
    out = values.result(target, order)
    total = operands[0]
    for position, operand in enumerate(operands[1:], 1):
        last = position == len(operands) - 1
        shape = np.broadcast_shapes(total.shape, operand.shape)
        made = out if last else values.new(f"{node.output[0]}/{position}", shape, order)
        fused = target.activation if last else 0
        options = {"fusedActivationFunction": fused, "potScaleInt16": False} if node.op_type in _FUSING else {}
        values.flat.operator(_BINARY[node.op_type], [total.index, operand.index], [made.index], 1, **options)
        total = made


def _all_integer(values: Values, node: NodeProto) -> bool:
    return all(values.pair_of(name) is not None or _is_scaled(values, name) for name in node.input)


def _is_scaled(values: Values, name: str) -> bool:
    """Tell whether a constant has one scale for all of its integers."""
    weights = values.weights(name)
    return weights is not None and weights.scale is not None and weights.scale.size == 1


def unary(values: Values, node: NodeProto) -> None:
    """Write an operator of one operand in float: XNNPACK's float kernels are quicker than tables of integers."""
    x = values.real(node.input[0])
    out = values.result(Sink(node.output[0], None), x.order)
    values.flat.operator(_UNARY[node.op_type], [x.index], [out.index])


def clip(values: Values, node: NodeProto) -> None:
    """Write a Relu or Clip that no operator before it applies."""
    if (own := values.integers(node.input[0])) is not None:
        _integer_relu(values, node, own)
        return
    limits = values.limits(node)
    x = values.real(node.input[0])
    out = values.result(Sink(node.output[0], None), x.order)
    known = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}
    if limits in known:
        values.flat.operator(known[limits], [x.index], [out.index])
        return
    steps = [(name, end) for name, end in zip(("MAXIMUM", "MINIMUM"), limits, strict=True) if math.isfinite(end)]
    for position, (name, end) in enumerate(steps):
        last = position == len(steps) - 1
        to = out if last else values.new(f"{node.output[0]}/{name}", x.shape, x.order)
        bound = values.flat.constant("bound", np.array(end, np.float32))
        values.flat.operator(name, [x.index, bound], [to.index])
        x = to
    if not steps:
        values.reshape(x.index, out.index, x.shape)


def _integer_relu(values: Values, node: NodeProto, x: Value) -> None:
    """Write the Clip of integers at their zero point, which ``quantize`` makes of a Relu: zero is added.

    XNNPACK has no RELU of integers: LiteRT's own kernel takes 60 times as long, and splits the graph in two.
    """
    low = values.graph.constants.get(node.input[1]) if len(node.input) == 2 else None
    assert x.pair is not None
    if low is None or int(low.reshape(())) - (128 if low.dtype == np.uint8 else 0) != x.pair.zero_point:
        raise refuse(node, "it clips integers, and not at their zero point")
    out = values.result(Sink(node.output[0], x.pair), x.order)
    zero = values.flat.constant("zero", np.full((1,) * len(x.shape), x.pair.zero_point, np.int8), x.pair.table)
    options = {"fusedActivationFunction": ACTIVATIONS[(0.0, math.inf)], "potScaleInt16": False}
    values.flat.operator("ADD", [x.index, zero], [out.index], 2, **options)


def leaky(values: Values, node: NodeProto) -> None:
    """Write a LeakyRelu, in integers where both sides have a pair."""
    sink = None if values.pair_of(node.input[0]) is None else values.integer_sink(node.output[0])
    if sink is not None and sink.activation:
        sink = None
    x = values.real(node.input[0]) if sink is None else values.integer(node.input[0])
    out = values.result(sink or Sink(node.output[0], None), x.order)
    slope = float(attribute(node, "alpha", 0.01))
    values.flat.operator("LEAKY_RELU", [x.index], [out.index], 2 if sink else 1, alpha=slope)


def prelu(values: Values, node: NodeProto) -> None:
    """Write a PRelu with constant slopes, in float."""
    x = values.real(node.input[0])
    slopes = values.weights(node.input[1])
    if slopes is None:
        raise refuse(node, "its slopes are computed")
    alpha = values.constant(node.input[1], slopes.real, x.order)
    out = values.result(Sink(node.output[0], None), x.order)
    values.flat.operator("PRELU", [x.index, alpha.index], [out.index])


def gelu(values: Values, node: NodeProto) -> None:
    """Write a Gelu."""
    x = values.real(node.input[0])
    out = values.result(Sink(node.output[0], None), x.order)
    approximate = attribute(node, "approximate", "none") == "tanh"
    values.flat.operator("GELU", [x.index], [out.index], approximate=approximate)


def hard_sigmoid(values: Values, node: NodeProto) -> None:
    """Write ``clip(alpha * x + beta, 0, 1)``."""
    x = values.real(node.input[0])
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    scaled, moved = (values.new(f"{node.output[0]}/{step}", x.shape, x.order) for step in ("scaled", "moved"))
    factor, term = (values.flat.constant("number", np.array(number, np.float32)) for number in (alpha, beta))
    values.flat.operator("MUL", [x.index, factor], [scaled.index])
    values.flat.operator("ADD", [scaled.index, term], [moved.index])
    out = values.result(Sink(node.output[0], None), x.order)
    values.flat.operator("RELU_0_TO_1", [moved.index], [out.index])


def reciprocal(values: Values, node: NodeProto) -> None:
    """Write ``1 / x``."""
    x = values.real(node.input[0])
    one = values.flat.constant("one", np.ones((), np.float32))
    out = values.result(Sink(node.output[0], None), x.order)
    values.flat.operator("DIV", [one, x.index], [out.index])


def softmax(values: Values, node: NodeProto) -> None:
    """Write a Softmax, or its logarithm, over one axis, which LiteRT wants last."""
    rank = len(values.shape(node.input[0]))
    axis = attribute(node, "axis", -1) % rank
    order = values.real(node.input[0]).order
    order = (*(other for other in order if other != axis), axis)
    x = values.real(node.input[0], order)
    out = values.result(Sink(node.output[0], None), order)
    if node.op_type == "LogSoftmax":
        values.flat.operator("LOG_SOFTMAX", [x.index], [out.index])
    else:
        values.flat.operator("SOFTMAX", [x.index], [out.index], beta=1.0)
