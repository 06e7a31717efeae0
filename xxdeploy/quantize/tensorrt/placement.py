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

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.quantize.placement import Layout
from xxdeploy.quantize.policy import CPU, Role, role
from xxdeploy.quantize.qdq import QdqWriter, checked
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import Ranges

with extra("export"):
    from onnx import NodeProto


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
    return _Writer(model, ranges, scheme, rounding).write()


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


class _Writer(QdqWriter):
    def write(self) -> OnnxModel:
        self._quantized: set[str] = set()
        residual_of = residuals(self.graph, self.layout)
        for node in self.graph.nodes:
            new = NodeProto()
            new.CopyFrom(node)
            if node.output[0] in self.layout.layers and role(self.graph, node, CPU) is Role.COMPUTE:
                new.input[0] = self._dequantized(node.input[0])
                # Layers that share weights each get a copy.
                new.input[1], _ = self._integer_weights(node, f"{node.output[0]}_weight")
            elif node.output[0] in residual_of:
                residual = residual_of[node.output[0]]
                new.input[:] = [self._dequantized(name) if name == residual else name for name in node.input]
            self.nodes.append(new)
        return checked(self.graph, self.nodes, self.arrays)

    def _dequantized(self, name: str) -> str:
        """Quantize and dequantize a tensor, once for all integer readers; other readers read the float tensor."""
        if name not in self._quantized:
            self._quantized.add(name)
            names = self._parameters_of(name)
            self._add("QuantizeLinear", [name, *names], f"{name}_quantized")
            self._add("DequantizeLinear", [f"{name}_quantized", *names], f"{name}_dequantized")
        return f"{name}_dequantized"
