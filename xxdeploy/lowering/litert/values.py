"""Tensors on their way into a LiteRT file: which integers they hold, and in which order their axes lie.

A tensor of the ONNX graph is channels-first, and LiteRT's layers read channels-last. So a value carries the order of
its axes, and a Transpose only renames them; axes are moved where a layer needs another order than the value has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from xxdeploy.errors import ConversionError
from xxdeploy.lowering.litert.flat import FlatModel, Quantization
from xxdeploy.onnxmodel.graph import Graph, layer_name

CHANNELS_LAST = (0, 2, 3, 1)
_TOP, _BOTTOM = 127, -128
_CLIPS = ("Relu", "Clip")


@dataclass(frozen=True, slots=True)
class Pair:
    """The scale and the zero point of a tensor: ``real = scale * (integer - zero_point)``, integers in int8."""

    scale: float
    zero_point: int

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest real value."""
        return (_BOTTOM - self.zero_point) * self.scale, (_TOP - self.zero_point) * self.scale

    @property
    def table(self) -> Quantization:
        """As the file states it."""
        return Quantization((self.scale,), (self.zero_point,))


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the file: axis ``i`` there is axis ``order[i]`` of the ONNX tensor. ``pair`` is None in float."""

    index: int
    order: tuple[int, ...]
    shape: tuple[int, ...]
    pair: Pair | None = None


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the result of a node goes: the ONNX tensor ``name``, in integers of ``pair`` or, with None, in float.

    ``activation`` is the one that the operator applies itself; ``absorbed`` are outputs of nodes that thereby need no
    operator of their own.
    """

    name: str
    pair: Pair | None
    activation: int = 0
    absorbed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """Constant operand: float32 ``array``, or integers with a ``scale`` for each index of ``axis``.

    ``zero`` is the integer that stands for 0.
    """

    array: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    axis: int = 0
    zero: int = 0

    @property
    def real(self) -> NDArray[Any]:
        """The numbers without a scale: float32, or the constant's own integers or truth values."""
        if self.scale is None:
            return self.array
        shape = [1] * self.array.ndim
        if self.scale.size > 1:
            shape[self.axis] = self.scale.size
        return ((self.array.astype(np.float32) - self.zero) * self.scale.reshape(shape)).astype(np.float32)


class Values:
    """The values of the tensors that were written so far, and how a node asks for its operands."""

    def __init__(self, graph: Graph, flat: FlatModel) -> None:
        self.graph, self.flat = graph, flat
        self.shapes, self._types = graph.shapes(), graph.types()
        self.absorbed: set[str] = set()
        self._known: dict[str, Value] = {}
        self._float: dict[str, Value] = {}
        self._ordered: dict[tuple[int, tuple[int, ...]], Value] = {}

    # What a tensor of the graph is.

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the static shape of an ONNX tensor."""
        shape = self.shapes.get(name)
        if shape is None or None in shape:
            raise ConversionError(
                f"the shape of {name} is not fixed, and a LiteRT file has fixed shapes",
                hint="export the model with --input-size",
                code="litert-shape",
            )
        return tuple(int(axis) for axis in shape if axis is not None)

    def pair_of(self, name: str) -> Pair | None:
        """Return the pair of the integers that ``name`` (the output of a DequantizeLinear) stands for; else None."""
        node = self.graph.producers().get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] in self.graph.constants:
            return None
        return self.parameters(node)

    def weights(self, name: str) -> Weights | None:
        """Return a constant operand; None if ``name`` is no constant."""
        constants = self.graph.constants
        if name in constants:
            array = np.asarray(constants[name])
            return Weights(array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array)
        node = self.graph.producers().get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            return None
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        scale = np.asarray(constants[node.input[1]], np.float32).reshape(-1)
        array = np.asarray(constants[node.input[0]])
        zeros = np.asarray(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(1, array.dtype)
        if array.dtype == np.uint8:  # the same integers, 128 lower
            array, zeros = (part.astype(np.int16) - 128 for part in (array, zeros))
            array = array.astype(np.int8)
        if zeros.size > 1 and np.any(zeros):
            shape = [zeros.size if other == axis else 1 for other in range(array.ndim)]
            centered = array.astype(np.int32) - zeros.astype(np.int32).reshape(shape)
            return Weights(Weights(centered, scale, axis).real)
        return Weights(array, scale, axis, int(zeros.reshape(-1)[0]))

    def integer_sink(self, name: str) -> Sink | None:
        """Follow the one reader of ``name``, through a Relu or Clip, to a QuantizeLinear; None if there is none."""
        reader = self.graph.only_consumer(name)
        absorbed: tuple[str, ...] = ()
        activation: int | None = 0
        if reader is not None and reader.op_type in _CLIPS:
            after = self.graph.only_consumer(reader.output[0])
            if after is None or after.op_type != "QuantizeLinear":
                return None
            limits, pair = self.limits(reader), self.parameters(after)
            activation = 0 if _inside(pair.span, limits, pair.scale) else ACTIVATIONS.get(limits)
            absorbed, reader = (reader.output[0],), after
        if reader is None or reader.op_type != "QuantizeLinear" or activation is None:
            return None
        return Sink(reader.output[0], self.parameters(reader), activation, (*absorbed, reader.output[0]))

    def float_sink(self, name: str) -> Sink:
        """Return ``name``, or the result of the Relu or Clip that alone reads it, to be written in float."""
        reader = self.graph.only_consumer(name)
        activation = ACTIVATIONS.get(self.limits(reader)) if reader is not None and reader.op_type in _CLIPS else None
        if reader is None or activation is None:
            return Sink(name, None)
        return Sink(reader.output[0], None, activation, (reader.output[0],))

    def limits(self, node: NodeProto) -> tuple[float, float]:
        """Return the bounds of a Relu or Clip, infinite where there is none."""
        if node.op_type == "Relu":
            return 0.0, float("inf")
        ends = [self.graph.constants[name] if name else None for name in (*node.input[1:], "", "")[:2]]
        low, high = (None if end is None else float(np.asarray(end).reshape(())) for end in ends)
        return -float("inf") if low is None else low, float("inf") if high is None else high

    def parameters(self, node: NodeProto) -> Pair:
        """Return the pair of a QuantizeLinear or DequantizeLinear."""
        scale, zero = (self.graph.constants[name] for name in (*node.input[1:3],))
        if scale.size != 1 or zero.dtype not in (np.int8, np.uint8):
            raise ConversionError(
                f"{node.name or node.output[0]} is not a pair of one scale in 8 bits",
                hint="LiteRT files are made from xxdeploy's INT8 graphs",
                code="litert-operator",
            )
        moved = 128 if zero.dtype == np.uint8 else 0  # the same integers, 128 lower
        return Pair(float(scale.reshape(())), int(zero.reshape(())) - moved)

    # Operands and results in the file.

    def integer(self, name: str, order: tuple[int, ...] | None = None) -> Value:
        """Return the integers that ``name``, the output of a DequantizeLinear, stands for."""
        return self.ordered(self._known[self.graph.producers()[name].input[0]], order)

    def integers(self, name: str) -> Value | None:
        """Return a tensor that itself holds integers of a pair; None for any other."""
        value = self._known.get(name)
        return value if value is not None and value.pair is not None else None

    def real(self, name: str, order: tuple[int, ...] | None = None) -> Value:
        """Return ``name`` in float32: an activation, or a constant."""
        weights = None if name in self._known else self.weights(name)
        if weights is not None:
            return self.constant(name, weights.real, order)
        if name not in self._known and self.pair_of(name) is not None:
            if name not in self._float:
                whole = self.integer(name)
                index = self.flat.tensor(name, whole.shape, "float32")
                self.flat.operator("DEQUANTIZE", [whole.index], [index], 2)
                self._float[name] = Value(index, whole.order, whole.shape)
            return self.ordered(self._float[name], order)
        return self.ordered(self._known[name], order)

    def constant(self, name: str, array: NDArray[Any], order: tuple[int, ...] | None = None) -> Value:
        """Return a constant with its axes in ``order``; it may have fewer axes than ``order`` (it broadcasts)."""
        kept = tuple(range(array.ndim)) if order is None else order
        if array.ndim and array.ndim < len(kept):
            array = array.reshape((1,) * (len(kept) - array.ndim) + array.shape)
        array = array.transpose(kept) if array.ndim else array
        return Value(self.flat.constant(name, array), kept if array.ndim else (), array.shape)

    def ordered(self, value: Value, order: tuple[int, ...] | None) -> Value:
        """Return ``value`` with its axes in ``order``: by a TRANSPOSE, or a RESHAPE where only axes of one move."""
        if order is None or value.order == order or not value.shape:
            return value
        moved = tuple(value.order.index(axis) for axis in order)
        key = (value.index, moved)
        if key not in self._ordered:
            shape = tuple(value.shape[axis] for axis in moved)
            long = [axis for axis in moved if value.shape[axis] != 1]
            name, kind = f"{self.flat.tensors[value.index].name}/ordered", self.flat.kind(value.index)
            new = self.new(name, shape, order, value.pair, kind)
            if long == sorted(long):
                self.reshape(value.index, new.index, shape)
            else:
                permutation = self.flat.constant("permutation", np.array(moved, np.int32))
                self.flat.operator("TRANSPOSE", [value.index, permutation], [new.index], 2)
            self._ordered[key] = new
        return replace(self._ordered[key], order=order)

    def reshape(self, index: int, new: int, shape: Sequence[int]) -> None:
        """Append a RESHAPE."""
        self.flat.operator("RESHAPE", [index, self.flat.constant("shape", np.array(shape, np.int32))], [new])

    def kind(self, name: str) -> str:
        """Return the numpy type that the file has for a tensor without a pair: float16 becomes float32."""
        return str(KINDS.get(self._types.get(name), "float32"))

    def new(
        self, name: str, shape: Sequence[int], order: tuple[int, ...], pair: Pair | None = None, kind: str = "float32"
    ) -> Value:
        """Add a tensor of the file with this shape, in the file's order of axes; with a ``pair`` it is int8."""
        kind, table = (kind, None) if pair is None else ("int8", pair.table)
        return Value(self.flat.tensor(name, shape, kind, table), order, tuple(shape), pair)

    def result(self, sink: Sink, order: tuple[int, ...] | None = None) -> Value:
        """Add the tensor of ``sink``, with its axes in ``order``, and remember it as written."""
        shape = self.shape(sink.name)
        order = tuple(range(len(shape))) if order is None else order
        value = self.new(sink.name, [shape[axis] for axis in order], order, sink.pair, self.kind(sink.name))
        self.absorbed.update(sink.absorbed)
        return self.keep(sink.name, value)

    def keep(self, name: str, value: Value) -> Value:
        """Remember ``value`` as the ONNX tensor ``name``."""
        self._known[name] = value
        return value

    def aligned(self, node: NodeProto, names: Sequence[str]) -> tuple[tuple[int, ...], list[Value]]:
        """Return float operands of the rank of the node's result, their axes in one order, and this order."""
        rank = len(self.shape(node.output[0]))
        lead = next((n for n in names if self.weights(n) is None and len(self.shape(n)) == rank), None)
        if lead is None:
            raise refuse(node, "no operand has the shape of the result")
        order = self.real(lead).order
        return order, [self.operand(name, order) for name in names]

    def operand(self, name: str, order: tuple[int, ...], *, integer: bool = False) -> Value:
        """Return a tensor, or a constant, with its axes in ``order`` and axes of one in front if it has fewer."""
        weights = None if name in self._known else self.weights(name)
        if weights is not None and integer:
            assert weights.scale is not None
            array = weights.array.reshape((1,) * (len(order) - weights.array.ndim) + weights.array.shape)
            array, pair = array.transpose(order), Pair(float(weights.scale.reshape(())), weights.zero)
            return Value(self.flat.constant(name, array, pair.table), order, array.shape, pair)
        if weights is not None:
            return self.constant(name, weights.real, order)
        shape = self.shape(name)
        whole = self.integer if integer else self.real
        if len(shape) == len(order):
            return whole(name, order)
        plain = whole(name, tuple(range(len(shape))))
        widened = (1,) * (len(order) - len(shape)) + shape
        kind = self.flat.kind(plain.index)
        new = self.new(f"{name}/widened", widened, tuple(range(len(order))), plain.pair, kind)
        self.reshape(plain.index, new.index, widened)
        return self.ordered(new, order)

    def requantized(self, value: Value, pair: Pair) -> Value:
        """Return int8 integers of another pair."""
        if value.pair == pair:
            return value
        new = self.new(f"{self.flat.tensors[value.index].name}/requantized", value.shape, value.order, pair)
        self.flat.operator("QUANTIZE", [value.index], [new.index], 2)
        return new

    def renamed(self, value: Value, order: tuple[int, ...]) -> Value:
        """Return the same tensor of the file, whose axes are those of an ONNX tensor in another order."""
        return replace(value, order=order)


def refuse(node: NodeProto, why: str) -> ConversionError:
    """Return the error for a node that has no form in LiteRT here."""
    return ConversionError(
        f"the layer {layer_name(node)} ({node.op_type}) has no form in LiteRT here: {why}",
        hint="export without LiteRT; the ONNX files hold the layer",
        code="litert-operator",
    )


KINDS: dict[int | None, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float32",
    TensorProto.DOUBLE: "float32",
    TensorProto.BOOL: "bool",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}
"""The numpy type of each type of ONNX in the file."""

ACTIVATIONS: dict[tuple[float, float], int] = {(0.0, float("inf")): 1, (-1.0, 1.0): 2, (0.0, 6.0): 3}
"""The bounds that an operator can apply itself, with their code of ``ActivationFunctionType``."""


def _inside(span: tuple[float, float], limits: tuple[float, float], step: float) -> bool:
    """Tell whether the integers cannot leave the limits by half a step, so that clipping before rounding is idle."""
    return span[0] > limits[0] - step / 2 and span[1] < limits[1] + step / 2
