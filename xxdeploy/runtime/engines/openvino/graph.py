"""Reading OpenVINO's graph: constants, users, and Q/DQ pairs as its ONNX reader writes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Graph:
    """An ``openvino.Model`` and its nodes by operator, sorted once: NASNetMobile has 13,000, each asked in 1 us.

    ``ops`` makes nodes.
    """

    model: Any
    nodes: Mapping[str, list[Any]]
    ops: Any

    @classmethod
    def of(cls, model: Any) -> Graph:
        """Sort the nodes, in the order in which they run."""
        from openvino import opset13

        nodes: defaultdict[str, list[Any]] = defaultdict(list)
        for node in model.get_ordered_ops():
            nodes[kind(node)].append(node)
        return cls(model, dict(nodes), opset13)

    def of_kind(self, *kinds: str) -> list[Any]:
        """Return the nodes of these operators, as there were."""
        return [node for name in kinds for node in self.nodes.get(name, ())]


def kind(node: Any) -> str:
    """Return a node's operator."""
    return str(node.get_type_name())


def constant(output: Any) -> NDArray[Any] | None:
    """Return a constant, seen through conversions; None if the value is computed from an input."""
    node = output.get_node()
    while kind(node) == "Convert":
        node = node.input_value(0).get_node()
    return np.array(node.data) if kind(node) == "Constant" else None


def folded(output: Any) -> NDArray[Any] | None:
    """Return a dequantized weight as float32: Reshape, Subtract and Multiply of constants, computed."""
    node = output.get_node()
    if kind(node) == "Reshape":
        inner, shape = folded(node.input_value(0)), node.get_output_partial_shape(0)
        if inner is None or not shape.is_static:
            return None
        sides = [int(side.get_length()) for side in shape]
        return inner.reshape(sides)
    if kind(node) in ("Subtract", "Multiply"):
        first, second = folded(node.input_value(0)), folded(node.input_value(1))
        if first is None or second is None:
            return None
        combine = np.subtract if kind(node) == "Subtract" else np.multiply
        combined: NDArray[Any] = combine(first, second)
        return combined
    value = constant(output)
    return None if value is None else value.astype(np.float32)


def scalar(output: Any) -> float | None:
    """Return a constant of one element."""
    value = constant(output)
    return float(value.ravel()[0]) if value is not None and value.size == 1 else None


def users(node: Any) -> list[Any]:
    """Return the nodes that read a node's value; reading its shape does not count."""
    readers = [target.get_node() for target in node.output(0).get_target_inputs()]
    return [reader for reader in readers if kind(reader) != "ShapeOf"]


def is_uint8(output: Any) -> bool:
    """Tell whether a value is uint8."""
    return str(output.get_element_type().get_type_name()) == "u8"


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of uint8, per tensor."""

    scale: float
    zero_point: float

    def is_like(self, other: Grid) -> bool:
        """Tell whether both give the same integers."""
        return self.zero_point == other.zero_point and bool(np.isclose(self.scale, other.scale, rtol=1e-6, atol=0))


@dataclass(frozen=True)
class Dequantized:
    """A uint8 value read as float: Convert, Subtract (absent for zero), Multiply. The source is an output of a node."""

    source: Any
    grid: Grid


def dequantized(node: Any) -> Dequantized | None:
    """Read the DequantizeLinear that ends in this node."""
    if kind(node) != "Multiply" or (scale := scalar(node.input_value(1))) is None:
        return None
    inner, zero_point = node.input_value(0).get_node(), 0.0
    if kind(inner) == "Subtract":
        subtracted = scalar(inner.input_value(1))
        if subtracted is None:
            return None
        inner, zero_point = inner.input_value(0).get_node(), subtracted
    if kind(inner) != "Convert" or not is_uint8(source := inner.input_value(0)):
        return None
    return Dequantized(source, Grid(scale, zero_point))


def quantizing_grid(node: Any) -> Grid | None:
    """Return the grid of a FakeQuantize that writes 0 to 255, as QuantizeLinear to uint8 is read."""
    if kind(node) != "FakeQuantize" or node.get_attributes()["levels"] != 256:
        return None
    low, high, first, last = (scalar(node.input_value(index)) for index in range(1, 5))
    if low is None or high is None or (first, last) != (0.0, 255.0) or not high > low:
        return None
    scale = (high - low) / 255
    return Grid(scale, float(np.round(-low / scale)))
