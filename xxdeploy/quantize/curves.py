"""Activations that multiply a tensor by a function of itself (swish, hard-swish, GELU, Mish) are computed in float.

Keras writes ``x * sigmoid(x)``, ``x * relu6(x + 3) / 6`` or ``x / 2 * (1 + erf(x / sqrt(2)))``: two to five operators
between two layers. With a scale for each operator, the value is rounded up to five times. As one function of ``x`` it
is rounded twice: before, as the layer's output, and after. The operators between run in float, element by element.

Such a function is almost constant for negative ``x`` (hard-swish is zero below -3), and half of the layer's integers
would tell values apart that the function maps to one. The range of ``x`` therefore ends where the function becomes flat
to within a quarter of a step of its own output. Krishnamoorthi 2018 (arXiv:1806.08342) does the same for ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.optional import extra

with extra("export"):
    import onnx
    from onnx import NodeProto
    from onnx.reference import ReferenceEvaluator

_ELEMENTWISE = frozenset(
    ("Add", "Clip", "Div", "Erf", "Exp", "HardSigmoid", "HardSwish", "Log", "Mul", "Neg", "Pow", "Reciprocal", "Relu")
) | {"Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"}
_SAMPLES = 4096
_FLAT = 0.25
"""The part of a step of the output by which the flat end of a curve may differ from a constant."""


@dataclass(frozen=True, slots=True)
class Curve:
    """``end`` as an elementwise function of ``source`` alone, and the nodes that compute it in graph order."""

    source: str
    end: str
    nodes: tuple[NodeProto, ...]


def find_curves(graph: Graph) -> tuple[Curve, ...]:
    """Return every product of a tensor and functions of it, as long as nothing else reads the values in between.

    Constants must be single numbers. Of products that lie within each other the last one counts.
    """
    source_of: dict[str, str] = {}
    inside: dict[str, tuple[NodeProto, ...]] = {}
    ends: dict[str, str] = {}  # the source of each product of functions of one tensor
    for node in graph.nodes:
        operands = dict.fromkeys(graph.activations(node))
        sources = {source_of.get(name, name) for name in operands}
        if node.op_type not in _ELEMENTWISE or len(sources) != 1 or not _is_scalar(graph, node):
            continue
        (source,), output = sources, str(node.output[0])
        if source not in graph.floats:
            continue
        source_of[output] = source
        before = {id(known): known for name in operands for known in inside.get(name, ())}
        inside[output] = (*before.values(), node)
        if node.op_type == "Mul" and len(operands) == 2:
            ends[output] = source
    curves = [Curve(source, end, _ordered(graph, inside[end])) for end, source in ends.items()]
    closed = [curve for curve in curves if _is_closed(graph, curve)]
    inner = {name for curve in closed for node in curve.nodes[:-1] for name in node.output}
    return tuple(curve for curve in closed if curve.end not in inner)


def narrowed(graph: Graph, curve: Curve, low: float, high: float) -> tuple[float, float]:
    """Return the part of the range ``low`` to ``high`` of the curve's source that its integers have to tell apart."""
    points = np.linspace(low, high, _SAMPLES, dtype=np.float32)
    values = _evaluate(graph, curve, points).astype(np.float64)
    if not np.isfinite(values).all():
        return low, high
    tolerance = _FLAT * (values.max() - values.min()) / 255
    spread = np.maximum.accumulate(values) - np.minimum.accumulate(values)
    flat = float(points[max(int(np.searchsorted(spread, tolerance, side="right")) - 1, 0)])
    return max(low, min(flat, 0.0)), high


def curves_of(graph: Graph, curves: tuple[Curve, ...], quantized: Mapping[str, str]) -> Iterator[Curve]:
    """Yield the curves that alone read a tensor with a scale of its own; ``quantized`` maps tensors to their scale."""
    shared = list(quantized.values())
    for curve in curves:
        scale = quantized.get(curve.source)
        readers = graph.consumers().get(curve.source, ())
        if scale is not None and shared.count(scale) == 1 and curve.source not in graph.kept:
            within = {id(node) for node in curve.nodes}
            if all(id(reader) in within for reader in readers):
                yield curve


def _is_scalar(graph: Graph, node: NodeProto) -> bool:
    return all(graph.constants[name].size == 1 for name in node.input if name in graph.constants)


def _is_closed(graph: Graph, curve: Curve) -> bool:
    """Tell whether no tensor inside is an output or read outside."""
    within = {id(node) for node in curve.nodes}
    inner = [name for node in curve.nodes[:-1] for name in node.output]
    return all(
        name not in graph.kept and all(id(reader) in within for reader in graph.consumers().get(name, ()))
        for name in inner
    )


def _ordered(graph: Graph, nodes: tuple[NodeProto, ...]) -> tuple[NodeProto, ...]:
    wanted = {id(node) for node in nodes}
    return tuple(node for node in graph.nodes if id(node) in wanted)


def _evaluate(graph: Graph, curve: Curve, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the curve at ``points``."""
    constants = {name for node in curve.nodes for name in node.input if name in graph.constants}
    arrays = [onnx.numpy_helper.from_array(np.asarray(graph.constants[name]).reshape(()), name) for name in constants]
    made = onnx.helper.make_graph(
        list(curve.nodes),
        "curve",
        [onnx.helper.make_tensor_value_info(curve.source, onnx.TensorProto.FLOAT, [len(points)])],
        [onnx.helper.make_tensor_value_info(curve.end, onnx.TensorProto.FLOAT, [len(points)])],
        arrays,
    )
    model = onnx.helper.make_model(made, opset_imports=list(graph.header.opset_import))
    with np.errstate(all="ignore"):
        (values,) = ReferenceEvaluator(model).run(None, {curve.source: points})
    return np.asarray(values, np.float32)
