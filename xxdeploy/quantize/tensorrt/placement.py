"""Write INT8 for TensorRT, from the same calibration as for the CPU.

The fusions of TensorRT decide where a pair (QuantizeLinear, DequantizeLinear) may stand (NVIDIA, "Working with
Quantized Types", TensorRT developer guide, and Wu et al. 2020, arXiv:2004.09602):

- before the data of every Conv, Gemm and MatMul, and after their weights, with one scale for each output channel;
- never between a layer and its activation: Conv, bias, Relu and the next pair's quantizer become one kernel;
- before the residual operand of an Add. A convolution writes the other operand, and the Add is fused into it. Of two
  convolutions, the later one is fused, and the output of the other is quantized;
- symmetric: zero points are 0, and the bias stays float.

The scales are those of ``quantize.placement.plan_layout``, so one calibration serves both layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.quantize.integers import integer_weights
from xxdeploy.quantize.placement import Layout, plan_layout
from xxdeploy.quantize.policy import CPU, Role, role, weight_axis
from xxdeploy.quantize.qdq import check_float_graph, checked, layout_parameters
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import Ranges

with extra("export"):
    from onnx import NodeProto, helper


def quantize_for_tensorrt(
    model: OnnxModel, ranges: Ranges, scheme: Scheme, *, rounding: Mapping[str, NDArray[np.int8]] | None = None
) -> OnnxModel:
    """Return ``model`` in INT8 for TensorRT; arguments and errors as :func:`xxdeploy.quantize.quantize`.

    Raises ``UsageError`` (``tensorrt-scheme``: the scheme is not symmetric).
    """
    if not scheme.symmetric:
        raise UsageError(
            f"TensorRT's INT8 is symmetric; {scheme.name} is not",
            hint="use static-w8c-a8s",
            code="tensorrt-scheme",
        )
    graph = Graph(model)
    check_float_graph(graph)
    layout = plan_layout(graph, scheme)
    return _Writer(graph, layout, ranges, scheme, rounding or {}).write()


def residuals(graph: Graph, layout: Layout) -> dict[str, str]:
    """Map the output of each Add that is fused into a convolution to its residual operand, if that has a scale."""
    order = {node.output[0]: index for index, node in enumerate(graph.nodes)}
    operands = {}
    for node in graph.nodes:
        if node.op_type != "Add" or len(graph.activations(node)) != 2 or node.input[0] == node.input[1]:
            continue
        fused = [name for name in node.input if _is_fusible(graph, layout, name)]
        if not fused:
            continue
        main = max(fused, key=order.__getitem__)
        residual = node.input[1] if node.input[0] == main else node.input[0]
        if residual in layout.scale_of:
            operands[str(node.output[0])] = str(residual)
    return operands


def _is_fusible(graph: Graph, layout: Layout, name: str) -> bool:
    """Tell whether an integer layer writes ``name`` for one reader alone, without an activation in between."""
    made = graph.producers().get(name)
    return (
        made is not None
        and made.op_type in ("Conv", "Gemm", "MatMul")
        and made.output[0] in layout.layers
        and graph.only_consumer(name) is not None
    )


class _Writer:
    """One pass over the graph that collects the new nodes and initializers."""

    def __init__(
        self,
        graph: Graph,
        layout: Layout,
        ranges: Ranges,
        scheme: Scheme,
        rounding: Mapping[str, NDArray[np.int8]],
    ) -> None:
        self.graph, self.scheme, self.rounding = graph, scheme, rounding
        self.layout, self.parameters = layout, layout_parameters(layout, ranges, scheme)
        self.residuals = residuals(graph, layout)
        self.nodes: list[NodeProto] = []
        self.arrays: dict[str, NDArray[Any]] = dict(graph.arrays)
        self.quantized: set[str] = set()

    def write(self) -> OnnxModel:
        for node in self.graph.nodes:
            new = NodeProto()
            new.CopyFrom(node)
            compute = node.output[0] in self.layout.layers and role(self.graph, node, CPU) is Role.COMPUTE
            if compute:
                new.input[0] = self._quantize(node.input[0])
                new.input[1] = self._weights(node)
            elif node.output[0] in self.residuals:
                residual = self.residuals[node.output[0]]
                new.input[:] = [self._quantize(name) if name == residual else name for name in node.input]
            self.nodes.append(new)
        return checked(self.graph, self.nodes, self.arrays)

    def _quantize(self, name: str) -> str:
        """Quantize and dequantize a tensor, once for all integer readers; other readers read the float tensor."""
        if name not in self.quantized:
            self.quantized.add(name)
            root = self.layout.scale_of[name]
            parameters = self.parameters[root]
            self.arrays[f"{root}_scale"], self.arrays[f"{root}_zero_point"] = parameters.scale, parameters.zero_point
            names = [f"{root}_scale", f"{root}_zero_point"]
            quantized, dequantized = f"{name}_quantized", f"{name}_dequantized"
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *names], [quantized], name=quantized))
            self.nodes.append(
                helper.make_node("DequantizeLinear", [quantized, *names], [dequantized], name=dequantized)
            )
        return f"{name}_dequantized"

    def _weights(self, node: NodeProto) -> str:
        """Store a layer's integers and dequantize them; layers that share weights each get a copy."""
        axis, stem = weight_axis(node), f"{node.output[0]}_weight"
        integers = integer_weights(
            self.graph.constants[node.input[1]],
            axis,
            self.scheme,
            bias=None,
            input_scale=float(self.parameters[self.layout.scale_of[node.input[0]]].scale),
        )
        names = [f"{stem}_quantized", f"{stem}_scale", f"{stem}_zero_point"]
        values = self.rounding.get(node.output[0], integers.values)
        zeros = np.zeros(integers.scale.shape, np.int8)
        self.arrays.update(zip(names, (values, integers.scale, zeros), strict=True))
        made = f"{stem}_dequantized"
        self.nodes.append(helper.make_node("DequantizeLinear", names, [made], name=made, axis=axis))
        return made
