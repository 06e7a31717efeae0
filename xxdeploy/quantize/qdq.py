"""Write INT8 into a graph as ``QuantizeLinear`` / ``DequantizeLinear`` pairs (Q/DQ).

Precision is then part of the graph, and every engine reads it there. Names derive from the float tensor's:
``x_quantized``, ``x_dequantized``, ``x_scale``, ``x_zero_point``. Graph inputs and outputs stay float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph, attributes, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.wire import skeleton
from xxdeploy.optional import extra
from xxdeploy.quantize.integers import (
    IntegerWeights,
    QuantizationParameters,
    activation_parameters,
    integer_weights,
)
from xxdeploy.quantize.placement import Layout, check_float_graph, plan_layout
from xxdeploy.quantize.policy import CPU, Role, role, weight_axis
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.x86.saturating_pairs import adds_in_16_bits
from xxdeploy.results import Ranges

with extra("export"):
    import onnx
    from onnx import NodeProto, helper


def quantize(
    model: OnnxModel, ranges: Ranges, scheme: Scheme, *, rounding: Mapping[str, NDArray[np.int8]] | None = None
) -> OnnxModel:
    """Return ``model`` in INT8 by ``scheme``, with the scales of activations from ``ranges``.

    ``rounding`` holds the integers of layers (by first output, in the weights' layout) that are not rounded to the
    nearest, see :mod:`xxdeploy.quantize.methods.rounding`. Scales do not depend on it.

    ``ranges`` may come from another model with the same tensor names: a bias correction keeps the ranges that it was
    made for. The same arguments return the same bytes. Raises ``UsageError`` (``already-quantized``: the graph holds
    Q/DQ pairs), ``ConversionError`` (``opset-too-old``, ``non-finite-weights``, ``nothing-to-quantize``;
    ``missing-range``: calibration did not measure a tensor; ``invalid-int8-graph``: the result does not pass ONNX's
    checker).
    """
    return QdqWriter(model, ranges, scheme, rounding).write()


def layout_parameters(layout: Layout, ranges: Ranges, scheme: Scheme) -> dict[str, QuantizationParameters]:
    """Return the parameters for each scale of ``layout``, from the joined ranges of its sources.

    Raises ``ConversionError`` (``missing-range``).
    """
    parameters = {}
    for root, sources in layout.sources.items():
        missing = [name for name in sources if name not in ranges.ranges]
        if missing:
            raise ConversionError(
                f"calibration has no range for tensor {missing[0]!r} ({len(missing)} missing at {root!r})",
                hint="calibrate the graph that is quantized: ranges go by tensor name",
                code="missing-range",
            )
        spans = [ranges.ranges[name] for name in sources]
        low, high = min(low for low, _ in spans), max(high for _, high in spans)
        parameters[root] = activation_parameters(low, high, scheme)
    return parameters


class QdqWriter:
    """One pass over the graph that collects the new nodes and initializers."""

    def __init__(
        self, model: OnnxModel, ranges: Ranges, scheme: Scheme, rounding: Mapping[str, NDArray[np.int8]] | None
    ) -> None:
        self.graph, self.scheme, self.rounding = Graph(model), scheme, rounding or {}
        check_float_graph(self.graph)
        self.layout = plan_layout(self.graph, scheme)
        self.parameters = layout_parameters(self.layout, ranges, scheme)
        self.nodes: list[NodeProto] = []
        self.arrays: dict[str, NDArray[Any]] = dict(self.graph.arrays)

    def write(self) -> OnnxModel:
        """Return the new model."""
        for name in self.graph.inputs:
            self._quantize(name, name)
        for node in self.graph.nodes:
            self._node(node)
        return checked(self.graph, self.nodes, self.arrays)

    def _node(self, node: NodeProto) -> None:
        """Write ``node`` with its new operands, and a Q/DQ pair after each output that is quantized."""
        if self._moves_integers(node):
            self._integers(node)
            return
        new = NodeProto()
        new.CopyFrom(node)
        new.input[:] = [self._reads(name) for name in node.input]
        if node.output[0] in self.layout.layers:
            if role(self.graph, node, CPU) is Role.COMPUTE:
                self._weights(node, new)
            else:
                new.input[:] = [self._scalar(name) if name in self.graph.constants else name for name in new.input]
        elif node.input[0] in self.layout.scale_of and self._needs_shield(node):
            new.input[0] = self._shield(new.input[0], f"{node.output[0]}_shield")
        for index, name in enumerate(node.output):
            if name in self.layout.scale_of and name in self.graph.outputs:
                new.output[index] = f"{name}_float"  # the output's own name goes to the end of the pair
        self.nodes.append(new)
        for name, written in zip(node.output, new.output, strict=True):
            self._quantize(name, written)

    def _reads(self, name: str) -> str:
        """Return the tensor that readers of ``name`` read instead."""
        if name not in self.layout.scale_of or name in self.graph.outputs:
            return name
        return f"{name}_dequantized"

    def _quantize(self, name: str, written: str) -> None:
        """Quantize and dequantize ``name``, which the graph holds as ``written``."""
        if name not in self.layout.scale_of:
            return
        names, quantized = self._parameters_of(name), f"{name}_quantized"
        self._add("QuantizeLinear", [written, *names], quantized)
        readers = self.graph.consumers().get(name, ())
        if not readers or name in self.graph.outputs or not all(self._moves_integers(node) for node in readers):
            self._add("DequantizeLinear", [quantized, *names], self._reads(name))

    def _parameters_of(self, name: str) -> list[str]:
        """Store the scale and the zero point of a tensor; return their names."""
        root = self.layout.scale_of[name]
        parameters = self.parameters[root]
        scale = self._array(f"{root}_scale", parameters.scale)
        return [scale, self._array(f"{root}_zero_point", parameters.zero_point)]

    def _moves_integers(self, node: NodeProto) -> bool:
        """Tell whether a Relu or a Pad can map integers to integers of the same scale.

        It cannot with int8: on x86 ONNX Runtime exchanges int8 for uint8 pair by pair, and fails on a single Q or DQ.
        """
        if self.scheme.signed:
            return False
        scales, ends = self.layout.scale_of, (node.input[0], node.output[0])
        if node.op_type not in ("Relu", "Pad") or any(
            name in self.graph.outputs or name not in scales for name in ends
        ):
            return False
        return scales[ends[0]] == scales[ends[1]] and (node.op_type == "Relu" or len(node.input) < 4)

    def _integers(self, node: NodeProto) -> None:
        """Write a Relu or a Pad over the integers themselves, where zero is the zero point.

        Between Q/DQ pairs ONNX Runtime would run a Pad or a Relu on floats: it has no integer kernels for them.
        """
        source, output = f"{node.input[0]}_quantized", node.output[0]
        root, made = self.layout.scale_of[output], f"{output}_quantized"
        zero, new = f"{root}_zero_point", NodeProto()
        new.CopyFrom(node)
        if node.op_type == "Relu":
            new.op_type = "Clip"
            new.input[:] = [source, zero]
        else:
            value = [zero] if attributes(node).get("mode", "constant") == "constant" else []
            new.input[:] = [source, node.input[1], *value]
        new.output[:] = [made]
        self.nodes.append(new)
        self._add("DequantizeLinear", [made, f"{root}_scale", zero], self._reads(output))

    def _weights(self, node: NodeProto, new: NodeProto) -> None:
        """Replace weights and bias of a layer by integers that are dequantized in front of it."""
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        shape = self.graph.constants[node.input[1]].shape
        new.input[1], integers = self._integer_weights(
            node,
            node.input[1],
            bias=None if bias is None else self.graph.constants[bias].reshape(-1),
            narrow=self.scheme.is_narrow(layer_name(node), node.output[0]) and adds_in_16_bits(node, shape),
        )
        if bias is not None and integers.bias is not None:
            new.input[2] = self._constant(bias, integers.bias, integers.bias_scale, None, 0)

    def _integer_weights(
        self, node: NodeProto, stem: str, *, bias: NDArray[np.float32] | None = None, narrow: bool = False
    ) -> tuple[str, IntegerWeights]:
        """Store a layer's weights as integers; return the tensor that they are dequantized to, and the integers."""
        axis, scale = weight_axis(node), float(self.parameters[self.layout.scale_of[node.input[0]]].scale)
        weights = self.graph.constants[node.input[1]]
        integers = integer_weights(weights, axis, self.scheme, bias=bias, input_scale=scale, narrow=narrow)
        rounded = self.rounding.get(node.output[0], integers.values)
        zeros = np.zeros(integers.scale.shape, np.int8)
        return self._constant(stem, rounded, integers.scale, zeros, axis), integers

    def _scalar(self, name: str) -> str:
        """Replace a single number by an integer that dequantizes to it exactly."""
        value = self.graph.constants[name]
        number = float(value.reshape(()))
        parameters = activation_parameters(number, number, self.scheme)
        info = np.iinfo(parameters.zero_point.dtype)
        steps = np.clip(np.rint(number / float(parameters.scale)) + int(parameters.zero_point), info.min, info.max)
        return self._constant(
            name, np.full(value.shape, steps, info.dtype), parameters.scale, parameters.zero_point, None
        )

    def _constant(
        self,
        name: str,
        values: NDArray[Any],
        scale: NDArray[np.float32],
        zero_point: NDArray[Any] | None,
        axis: int | None,
    ) -> str:
        """Store a quantized constant and dequantize it; a constant of several layers is stored for each."""
        stem, copy = name, 1
        while f"{stem}_quantized" in self.arrays:
            copy += 1
            stem = f"{name}_{copy}"
        inputs = [self._array(f"{stem}_quantized", values), self._array(f"{stem}_scale", scale)]
        if zero_point is not None:
            inputs.append(self._array(f"{stem}_zero_point", zero_point))
        self._add("DequantizeLinear", inputs, f"{stem}_dequantized", axis)
        return f"{stem}_dequantized"

    def _needs_shield(self, node: NodeProto) -> bool:
        """Tell whether ONNX Runtime would turn a float layer after a DequantizeLinear into an integer one."""
        if CPU.get(node.op_type) is Role.COMPUTE or node.op_type == "Softmax":
            return True
        end = node.output[0]
        while (reader := self.graph.only_consumer(end)) is not None and CPU.get(reader.op_type) is Role.ACTIVATION:
            end = reader.output[0]
        return node.op_type == "AveragePool" and end in self.layout.scale_of

    def _shield(self, name: str, shield: str) -> str:
        """Put a copy in front of a layer that stays in float.

        Between a DequantizeLinear and a QuantizeLinear, ONNX Runtime would round the layer's float weights to integers
        by itself, with one scale for all channels (its WeightBiasQuantization), and run an AveragePool in integers,
        which takes four to ten times as long as the copy and a float pool. Its integer Softmax wraps around where a
        probability exceeds the calibrated range: 0.311 became 0 (onnxruntime 1.31). A Sum of one operand prevents all
        that. Identity would not: it is removed first.
        """
        self.nodes.append(helper.make_node("Sum", [name], [shield], name=shield))
        return shield

    def _array(self, name: str, value: NDArray[Any]) -> str:
        self.arrays[name] = value
        return name

    def _add(self, op: str, inputs: Iterable[str], output: str, axis: int | None = None) -> None:
        node = helper.make_node(op, list(inputs), [output], name=output)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)


def checked(graph: Graph, nodes: list[NodeProto], arrays: dict[str, NDArray[Any]]) -> OnnxModel:
    """Return the model of ``graph`` with new nodes and arrays, if ONNX's checker and strict inference accept it.

    Raises ``ConversionError`` (``invalid-int8-graph``).
    """
    graph.nodes, graph.arrays = nodes, arrays
    try:
        onnx.checker.check_model(skeleton(graph.proto(), graph.used_arrays()), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the INT8 graph is not valid ONNX: {error}",
            hint="this is a fault of xxdeploy: please report it with the model's name",
            code="invalid-int8-graph",
        ) from error
    return graph.to_model()
