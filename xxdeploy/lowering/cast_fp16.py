"""Cast a float32 graph to float16, with float32 input and output.

float16 has 11 bits of precision between 6.1e-5 and 65504 (IEEE 754 binary16); smaller values lose bits, larger ones
become infinite. So a layer stays in float32 if its weights or, by the calibrated ranges, its activations leave that
range, and so do operators that are not on the list: sums of many squares, exponentials, Softmax. The casts are part of
the graph, so every engine follows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph, bodies, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import Ranges

LARGEST = 65504.0
SMALLEST = 2.0**-14
"""Smallest float16 with full precision."""
HEADROOM = 2.0
"""An activation may become this many times as large on images outside the calibration set."""
OPSET = 13

HALF_OPERATORS = frozenset(
    (
        *("Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace"),
        *("Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid"),
        *("HardSwish", "Identity", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul", "PRelu", "Pad"),
        *("Relu", "Reshape", "Sigmoid", "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile"),
        *("Transpose", "Unsqueeze"),
    )
)
"""Operators that keep their precision in float16: they multiply, add few numbers, or only move values. Engines add the
many products of Conv, Gemm and MatMul in float32."""

_MOVES = frozenset(
    (
        *("Concat", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Split", "Squeeze"),
        *("Transpose", "Unsqueeze"),
    )
)
"""Operators that compute nothing; they keep the type of their input."""

_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """A node that stays in float32 because of its values, and the reason."""

    layer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fp16:
    """The cast ``model``, the layers ``kept`` in float32, and whether activations were ``checked``."""

    model: OnnxModel
    kept: tuple[KeptLayer, ...]
    checked: bool


def cast_fp16(model: OnnxModel, ranges: Ranges | None = None, *, float_layers: frozenset[str] = frozenset()) -> Fp16:
    """Return the float32 ``model`` in float16. The same arguments return the same bytes.

    ``ranges`` are those of calibration; without them only weights are checked. ``float_layers`` (node names or first
    outputs) stay in float32. Raises ``ConversionError`` (``fp16-graph``: the model has Q/DQ pairs, float16 tensors or
    control flow, or its opset is older than 13).
    """
    graph = Graph(model)
    _check(graph)
    seen = {} if ranges is None else ranges.ranges
    kept = tuple(KeptLayer(layer_name(node), why) for node in graph.nodes if (why := _misfit(graph, node, seen)))
    floats = float_layers | {layer.layer for layer in kept}
    _Caster(graph, floats).cast()
    return Fp16(graph.to_model(), kept, ranges is not None)


def _check(graph: Graph) -> None:
    problem = None
    if graph.opset < OPSET:
        problem = f"its opset is older than {OPSET}"
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        problem = "it is quantized"
    if any(bodies(node) for node in graph.nodes):
        problem = "it has control flow"
    if _HALF in graph.types().values() or any(array.dtype == np.float16 for array in graph.arrays.values()):
        problem = "it has float16 tensors already"
    if problem:
        raise ConversionError(
            f"the graph cannot be cast to float16: {problem}",
            hint="start from the float32 model that xxdeploy exports",
            code="fp16-graph",
        )


def _misfit(graph: Graph, node: onnx.NodeProto, seen: Mapping[str, tuple[float, float]]) -> str | None:
    """Return why a node's values do not fit into float16; None if they do, or if it stays in float32 anyway."""
    if node.op_type not in HALF_OPERATORS:
        return None
    for name in node.input:
        array = graph.arrays.get(name)
        # The bound of a Clip or the value of a Pad is no weight: above float16 it becomes 65504, with the same effect.
        if array is not None and array.dtype == np.float32 and array.size and node.op_type not in ("Clip", "Pad"):
            largest = float(np.abs(array).max())
            if not largest <= LARGEST:
                return f"weights up to {largest:.3g}, above {LARGEST:.0f}"
            if 0 < largest < SMALLEST:
                return f"weights of at most {largest:.3g}, below {SMALLEST:.2g}"
    for name in (*node.input, *node.output):
        if name not in seen:
            continue
        largest = max(abs(bound) for bound in seen[name])
        if largest * HEADROOM > LARGEST:
            return f"values up to {largest:.3g}, above {LARGEST:.0f} / {HEADROOM:.0f}"
        if 0 < largest < SMALLEST:
            return f"values of at most {largest:.3g}, below {SMALLEST:.2g}"
    return None


class _Caster:
    """One pass over the nodes. Every float tensor has one type; a Cast makes the other where a node reads it."""

    def __init__(self, graph: Graph, floats: frozenset[str]) -> None:
        self.graph, self.floats = graph, floats
        self.kinds = graph.types()
        self.half: set[str] = set()
        self.casts: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def cast(self) -> None:
        """Insert the casts."""
        for node in self.graph.nodes:
            half = self._in_half(node)
            node.input[:] = [self._read(name, half) for name in node.input]
            outputs = list(node.output)
            self.nodes.append(node)
            if not half:
                continue
            for index, name in enumerate(outputs):
                if self.kinds.get(name) != _FLOAT:
                    continue
                if name in self.graph.kept:  # an output stays float32 and keeps its name
                    node.output[index] = self.graph.fresh(f"{name}_fp16")
                    self.casts[name, _HALF] = node.output[index]
                    self._cast(node.output[index], name, _FLOAT)
                else:
                    self.half.add(name)
        self.graph.nodes = self.nodes
        self.graph.forget_shapes()  # they state float32

    def _in_half(self, node: onnx.NodeProto) -> bool:
        if layer_name(node) in self.floats or node.output[0] in self.floats:
            return False
        if self.kinds.get(node.output[0]) != _FLOAT or node.op_type not in HALF_OPERATORS:
            return False
        inputs = [name for name in node.input if self.kinds.get(name) == _FLOAT and name not in self.graph.arrays]
        if node.op_type in _MOVES and inputs:
            return any(name in self.half or (name, _HALF) in self.casts for name in inputs)
        return True

    def _read(self, name: str, half: bool) -> str:
        """Return the tensor that holds ``name`` in the wanted type."""
        array = self.graph.arrays.get(name)
        if array is not None:
            return self._constant(name) if half and array.dtype == np.float32 else name
        if self.kinds.get(name) != _FLOAT or (name in self.half) == half:
            return name
        kind = _HALF if half else _FLOAT
        if (name, kind) not in self.casts:
            self.casts[name, kind] = self.graph.fresh(f"{name}_{'fp16' if half else 'fp32'}")
            self._cast(name, self.casts[name, kind], kind)
        return self.casts[name, kind]

    def _constant(self, name: str) -> str:
        if (name, _HALF) not in self.casts:
            values = np.clip(self.graph.arrays[name], -LARGEST, LARGEST).astype(np.float16)
            self.casts[name, _HALF] = self.graph.add_array(f"{name}_fp16", values)
        return self.casts[name, _HALF]

    def _cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(onnx.helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind))
