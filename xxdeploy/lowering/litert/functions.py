"""Functions that LiteRT has no operator for, written as several, all in float; comparisons, casts and choices."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from xxdeploy.lowering.litert.values import CHANNELS_LAST, KINDS, Sink, Value, Values, refuse
from xxdeploy.onnxmodel.graph import attribute


class _Formula:
    """A formula of one tensor, step by step; each step is a new tensor of the same shape."""

    def __init__(self, values: Values, node: NodeProto) -> None:
        self.values, self.node = values, node
        self.x = values.real(node.input[0])
        self.count = 0

    def step(self, operator: str, *operands: Value | float, **options: Any) -> Value:
        """Append an operator; numbers become constants."""
        self.count += 1
        out = self.values.new(f"{self.node.output[0]}/{self.count}", self.x.shape, self.x.order)
        indices = [
            operand.index
            if isinstance(operand, Value)
            else self.values.flat.constant("number", np.array(operand, np.float32))
            for operand in operands
        ]
        self.values.flat.operator(operator, indices, [out.index], **options)
        return out

    def end(self, value: Value) -> None:
        """Make ``value`` the node's output."""
        self.values.keep(self.node.output[0], value)


def softplus(values: Values, node: NodeProto) -> None:
    """``log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))``, which cannot overflow."""
    formula = _Formula(values, node)
    decay = formula.step("EXP", formula.step("NEG", formula.step("ABS", formula.x)))
    rest = formula.step("LOG", formula.step("ADD", decay, 1.0))
    formula.end(formula.step("ADD", formula.step("RELU", formula.x), rest))


def softsign(values: Values, node: NodeProto) -> None:
    """``x / (1 + |x|)``."""
    formula = _Formula(values, node)
    formula.end(formula.step("DIV", formula.x, formula.step("ADD", formula.step("ABS", formula.x), 1.0)))


def selu(values: Values, node: NodeProto) -> None:
    """``gamma * (max(x, 0) + alpha * (exp(min(x, 0)) - 1))``; also Elu with an alpha, and Celu."""
    formula = _Formula(values, node)
    defaults = {"Selu": 1.67326319217681884765625, "Elu": 1.0, "Celu": 1.0}
    alpha = attribute(node, "alpha", defaults[node.op_type])
    gamma = attribute(node, "gamma", 1.05070102214813232421875) if node.op_type == "Selu" else 1.0
    negative = formula.step("MINIMUM", formula.x, 0.0)
    inner = formula.step("DIV", negative, alpha) if node.op_type == "Celu" else negative
    decay = formula.step("SUB", formula.step("EXP", inner), 1.0)
    total = formula.step("ADD", formula.step("RELU", formula.x), formula.step("MUL", decay, alpha))
    formula.end(formula.step("MUL", total, gamma))


def thresholded_relu(values: Values, node: NodeProto) -> None:
    """``x`` above alpha, else 0."""
    x = values.real(node.input[0])
    alpha = values.flat.constant("alpha", np.array(attribute(node, "alpha", 1.0), np.float32))
    above = values.flat.tensor(f"{node.output[0]}/above", x.shape, "bool")
    values.flat.operator("GREATER", [x.index, alpha], [above])
    factor = values.new(f"{node.output[0]}/factor", x.shape, x.order)
    values.flat.operator("CAST", [above], [factor.index])
    out = values.result(Sink(node.output[0], None), x.order)
    values.flat.operator("MUL", [x.index, factor.index], [out.index])


def erf(values: Values, node: NodeProto) -> None:
    """``erf(x) = 2 * Phi(sqrt(2) x) - 1``, and ``gelu(y) = y * Phi(y)``: so by GELU, with a series near zero.

    Division by ``y`` would lose all digits near zero, where ``erf(x) = 2 / sqrt(pi) * (x - x^3 / 3 + x^5 / 10)``.
    """
    formula = _Formula(values, node)
    small = formula.step("MAXIMUM", formula.step("MINIMUM", formula.x, 0.25), -0.25)
    square = formula.step("MUL", small, small)
    series = formula.step("ADD", formula.step("MUL", square, -1 / 42), 0.1)
    series = formula.step("SUB", formula.step("MUL", formula.step("MUL", series, square), 1.0), 1 / 3)
    series = formula.step("ADD", formula.step("MUL", series, square), 1.0)
    near = formula.step("MUL", formula.step("MUL", series, small), 2 / np.sqrt(np.pi))
    size = formula.step("ABS", formula.x)
    y = formula.step("MUL", formula.step("MAXIMUM", size, 0.25), np.sqrt(2))
    phi = formula.step("DIV", formula.step("GELU", y, approximate=False), y)
    far = formula.step("SUB", formula.step("MUL", phi, 2.0), 1.0)
    far = formula.step("MUL", far, formula.step("SIGN", formula.x))
    inside = values.flat.tensor(f"{node.output[0]}/near", formula.x.shape, "bool")
    edge = values.flat.constant("number", np.array(0.25, np.float32))
    values.flat.operator("LESS", [size.index, edge], [inside])
    out = values.new(f"{node.output[0]}/chosen", formula.x.shape, formula.x.order)
    values.flat.operator("SELECT_V2", [inside, near.index, far.index], [out.index])
    formula.end(out)


def batch_norm(values: Values, node: NodeProto) -> None:
    """``x * factor + term``, with constants for each channel."""
    weights = [values.weights(name) for name in node.input[1:5]]
    if any(each is None for each in weights):
        raise refuse(node, "its statistics are computed")
    gamma, beta, mean, variance = (each.real.astype(np.float64) for each in weights if each is not None)
    factor = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    term = beta - mean * factor
    x = values.real(node.input[0])
    shape = tuple(len(factor) if axis == 1 else 1 for axis in x.order)
    factors, terms = (each.astype(np.float32).reshape(shape) for each in (factor, term))
    scaled = values.new(f"{node.output[0]}/scaled", x.shape, x.order)
    values.flat.operator("MUL", [x.index, values.flat.constant("factor", factors)], [scaled.index])
    sink = values.float_sink(node.output[0])
    out = values.result(sink, x.order)
    operands = [scaled.index, values.flat.constant("term", terms)]
    values.flat.operator("ADD", operands, [out.index], fusedActivationFunction=sink.activation, potScaleInt16=False)


_COMPARED = {
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Equal": "EQUAL",
    "And": "LOGICAL_AND",
    "Or": "LOGICAL_OR",
}


def compare(values: Values, node: NodeProto) -> None:
    """Write a comparison of two tensors."""
    order, operands = values.aligned(node, node.input)
    shape = [values.shape(node.output[0])[axis] for axis in order]
    index = values.flat.tensor(node.output[0], shape, "bool")
    values.flat.operator(_COMPARED[node.op_type], [x.index for x in operands], [index])
    values.keep(node.output[0], Value(index, order, tuple(shape)))


def logical_not(values: Values, node: NodeProto) -> None:
    """Write a Not."""
    x = values.real(node.input[0])
    index = values.flat.tensor(node.output[0], x.shape, "bool")
    values.flat.operator("LOGICAL_NOT", [x.index], [index])
    values.keep(node.output[0], Value(index, x.order, x.shape))


def where(values: Values, node: NodeProto) -> None:
    """Write a choice between two tensors."""
    order, operands = values.aligned(node, node.input)
    out = values.result(Sink(node.output[0], None), order)
    values.flat.operator("SELECT_V2", [x.index for x in operands], [out.index])


def cast(values: Values, node: NodeProto) -> None:
    """Write a Cast between float32, int32, int64 and bool; to 8 bits only for another Cast to read.

    LiteRT takes integers of 8 bits for quantized ones in every other operator.
    """
    to = KINDS.get(attribute(node, "to", 0), _SHORT.get(attribute(node, "to", 0)))
    if to is None:
        raise refuse(node, "it is to another type")
    if to in _SHORT.values():
        readers = values.graph.consumers().get(node.output[0], [])
        if node.output[0] in values.graph.outputs or any(reader.op_type != "Cast" for reader in readers):
            raise refuse(node, f"another layer than a Cast reads its {to} result")
    x = values.real(node.input[0])
    if to == values.flat.kind(x.index):
        values.keep(node.output[0], x)
        return
    index = values.flat.tensor(node.output[0], x.shape, to)
    if to == "bool":
        zero = values.flat.constant("zero", np.zeros((), values.flat.kind(x.index)))
        values.flat.operator("NOT_EQUAL", [x.index, zero], [index])
    else:
        values.flat.operator("CAST", [x.index], [index])
    values.keep(node.output[0], Value(index, x.order, x.shape))


_SHORT = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8"}


def tile(values: Values, node: NodeProto) -> None:
    """Write a Tile, or an Expand, which is a Tile of the axes of one."""
    x = values.real(node.input[0])
    after = values.shape(node.output[0])
    rank = len(after)
    if len(x.order) < rank:
        plain = values.ordered(x, tuple(range(len(x.order))))
        widened = (1,) * (rank - len(x.order)) + plain.shape
        kind = values.flat.kind(plain.index)
        x = values.new(f"{node.output[0]}/widened", widened, tuple(range(rank)), kind=kind)
        values.reshape(plain.index, x.index, widened)
    times = [after[axis] // x.shape[position] for position, axis in enumerate(x.order)]
    out = values.result(Sink(node.output[0], None), x.order)
    values.flat.operator("TILE", [x.index, values.flat.constant("times", np.array(times, np.int32))], [out.index])


def arg_extreme(values: Values, node: NodeProto) -> None:
    """Write an ArgMax or ArgMin, whose indices are int64."""
    if attribute(node, "select_last_index", 0):
        raise refuse(node, "it returns the last of equal elements")
    x = values.real(node.input[0])
    rank = len(x.order)
    axis = attribute(node, "axis", 0) % rank
    shape = values.shape(node.output[0])
    kept = [other for other in x.order if other != axis]
    order = x.order if attribute(node, "keepdims", 1) else tuple(other - (other > axis) for other in kept)
    name = "ARG_MAX" if node.op_type == "ArgMax" else "ARG_MIN"
    where = values.flat.constant("axis", np.array(x.order.index(axis), np.int32))
    index = values.flat.tensor(f"{node.output[0]}/flat", [x.shape[x.order.index(other)] for other in kept], "int64")
    values.flat.operator(name, [x.index, where], [index], 2, outputType=4)
    out = values.result(Sink(node.output[0], None), order)
    values.reshape(index, out.index, [shape[other] for other in order])


def top_k(values: Values, node: NodeProto) -> None:
    """Write a TopK with a constant number, over one axis, which LiteRT wants last; its indices are int32 there."""
    count = values.graph.constants.get(node.input[1])
    if count is None or not attribute(node, "largest", 1):
        raise refuse(node, "its number is computed, or it returns the smallest elements")
    order = values.real(node.input[0]).order
    axis = attribute(node, "axis", -1) % len(order)
    order = (*(other for other in order if other != axis), axis)
    x = values.real(node.input[0], order)
    operands = [x.index, values.flat.constant("k", np.array(int(count.reshape(())), np.int32))]
    shape = (*x.shape[:-1], int(count.reshape(())))
    largest = values.new(node.output[0], shape, order, kind=values.flat.kind(x.index))
    places = values.new(f"{node.output[0]}/places", shape, order, kind="int32")
    values.flat.operator("TOPK_V2", operands, [largest.index, places.index], 2)
    values.keep(node.output[0], largest)
    if len(node.output) == 1 or not node.output[1]:
        return
    wide = values.new(node.output[1], shape, order, kind="int64")
    values.flat.operator("CAST", [places.index], [wide.index])
    values.keep(node.output[1], wide)


def one_hot(values: Values, node: NodeProto) -> None:
    """Write a OneHot of constant depth and values. Indices count from the end where they are negative."""
    depth, ends = (values.graph.constants.get(name) for name in node.input[1:3])
    if depth is None or ends is None:
        raise refuse(node, "its depth is computed")
    x = values.real(node.input[0])
    size = int(depth.reshape(()))
    index, wrapped, found = (values.flat.tensor(f"{node.output[0]}/{i}", x.shape, "int32") for i in range(3))
    below = values.flat.tensor(f"{node.output[0]}/below", x.shape, "bool")
    zero, whole = (values.flat.constant("number", np.array(number, np.int32)) for number in (0, size))
    values.flat.operator("CAST", [x.index], [index])
    values.flat.operator("LESS", [index, zero], [below])
    values.flat.operator("ADD", [index, whole], [wrapped], potScaleInt16=False)
    values.flat.operator("SELECT_V2", [below, wrapped, index], [found])
    rank = len(x.order) + 1
    axis = attribute(node, "axis", -1) % rank
    order = (*(other + (other >= axis) for other in x.order), axis)
    out = values.result(Sink(node.output[0], None), order)
    off, on = (values.flat.constant("value", np.array(end, values.flat.kind(out.index))) for end in ends.tolist())
    values.flat.operator("ONE_HOT", [found, whole, on, off], [out.index], axis=-1)


def cumulative_sum(values: Values, node: NodeProto) -> None:
    """Write a CumSum over a constant axis."""
    axis = values.graph.constants.get(node.input[1])
    if axis is None:
        raise refuse(node, "its axis is computed")
    x = values.real(node.input[0])
    where = x.order.index(int(axis.reshape(())) % len(x.order))
    out = values.result(Sink(node.output[0], None), x.order)
    flags = {name: bool(attribute(node, name, 0)) for name in ("exclusive", "reverse")}
    operands = [x.index, values.flat.constant("axis", np.array(where, np.int32))]
    values.flat.operator("CUMSUM", operands, [out.index], **flags)


def is_nan(values: Values, node: NodeProto) -> None:
    """Write an IsNaN: only such a number differs from itself."""
    x = values.real(node.input[0])
    index = values.flat.tensor(node.output[0], x.shape, "bool")
    values.flat.operator("NOT_EQUAL", [x.index, x.index], [index])
    values.keep(node.output[0], Value(index, x.order, x.shape))


def lrn(values: Values, node: NodeProto) -> None:
    """Write an LRN over an odd number of channels."""
    size = attribute(node, "size", 0)
    if size % 2 == 0 or len(values.shape(node.input[0])) != len(CHANNELS_LAST):
        raise refuse(node, f"its window has {size} channels, or its input is no image")
    x = values.real(node.input[0], CHANNELS_LAST)
    out = values.result(Sink(node.output[0], None), CHANNELS_LAST)
    factors = {"alpha": attribute(node, "alpha", 1e-4) / size, "beta": attribute(node, "beta", 0.75)}
    factors["bias"] = attribute(node, "bias", 1.0)
    values.flat.operator("LOCAL_RESPONSE_NORMALIZATION", [x.index], [out.index], radius=size // 2, **factors)


def einsum(values: Values, node: NodeProto) -> None:
    """Write an Einsum of two tensors as BATCH_MATMUL: shared axes are batches, one group is summed."""
    equation = attribute(node, "equation", "").replace(" ", "")
    inputs, _, output = equation.partition("->")
    left, _, right = inputs.partition(",")
    letters = {*left, *right}
    if len(node.input) != 2 or "." in equation or not output or any(len({*t}) != len(t) for t in (left, right, output)):
        raise refuse(node, f"its equation is {equation}")
    batch = [letter for letter in output if letter in left and letter in right]
    summed = [letter for letter in left if letter in right and letter not in output]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    if letters != {*batch, *summed, *rows, *columns} or not {*rows, *columns} <= {*output}:
        raise refuse(node, f"its equation is {equation}")
    size = dict(zip(left + right, values.shape(node.input[0]) + values.shape(node.input[1]), strict=True))

    def matrix(name: str, term: str, *groups: list[str]) -> Value:
        order = tuple(term.index(letter) for group in groups for letter in group)
        whole = values.real(name, order)
        shape = [int(np.prod([size[letter] for letter in group])) for group in groups]
        new = values.new(f"{name}/matrix", shape, tuple(range(len(shape))))
        values.reshape(whole.index, new.index, shape)
        return new

    one = matrix(node.input[0], left, batch, rows, summed)
    two = matrix(node.input[1], right, batch, summed, columns)
    product = values.new(f"{node.output[0]}/product", (one.shape[0], one.shape[1], two.shape[2]), (0, 1, 2))
    values.flat.operator("BATCH_MATMUL", [one.index, two.index], [product.index], 1, adjX=False, adjY=False)
    order = tuple(output.index(letter) for letter in (*batch, *rows, *columns))
    out = values.result(Sink(node.output[0], None), order)
    values.reshape(product.index, out.index, out.shape)
