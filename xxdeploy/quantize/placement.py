"""Decide which layers and tensors of a graph become integer, and which tensors share a scale.

ONNX Runtime needs each of these rules to find an integer kernel, or the rule costs nothing:

- A layer reads integers and writes integers. A Relu or Clip that is the only reader of the layer's output stands in
  between, without a quantizer of its own: the next quantizer clips at the same place, so the activation is free.
- Gemm and MatMul may write float, and do if nothing integer reads them: a classifier's logits keep their precision.
- Operators that only move or pick values (MaxPool, Reshape, Transpose, ...) keep the input's scale, so nothing is
  rounded twice. They are quantized if an integer layer reads their output. A Relu of a tensor that has other integer
  readers is one of them.
- A tensor that only a Concat reads takes the Concat's scale: it is rounded once, and the Concat copies integers
  (openvinotoolkit/nncf#2199). A tensor with other readers keeps its own scale, unless a Concat wrote it: all Concats of
  a DenseNet block share one scale, or each would round the first tensors again.
- An Add stays in float if one of its operands is computed in float and would be rounded for it alone (NASNet adds the
  outputs of average pools).
- The inside of a norm and of attention, and what follows the last sigmoid or softmax, stay in float
  (``quantize.float_insides``).
- A tensor is quantized once, for all its readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.graph import Graph, layer_name
from xxdeploy.optional import extra
from xxdeploy.quantize.float_insides import float_insides
from xxdeploy.quantize.policy import CPU, Role, role
from xxdeploy.quantize.scheme import Scheme

with extra("export"):
    from onnx import NodeProto

OPSET = 13
"""First opset whose DequantizeLinear has an axis, which scales per channel need."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The integer part of a graph.

    ``layers`` holds the first outputs of the integer layers. ``scale_of`` maps every quantized activation to the tensor
    that names its scale. ``sources`` maps that tensor to those whose joined ranges become the scale: usually itself
    alone.
    """

    layers: frozenset[str]
    scale_of: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]

    @property
    def measured(self) -> tuple[str, ...]:
        """The tensors that calibration has to measure, in graph order."""
        return tuple(dict.fromkeys(name for names in self.sources.values() for name in names))


def plan_layout(graph: Graph, scheme: Scheme, table: Mapping[str, Role] = CPU) -> Layout:
    """Apply the rules above for ``scheme`` and a target with the support ``table``.

    Raises ``ConversionError`` (``nothing-to-quantize``: the graph has no layer that the target runs in integers).
    """
    roles = {id(node): role(graph, node, table) for node in graph.nodes}
    passes = [node for node in graph.nodes if roles[id(node)] is Role.PASS]
    layers = _integer_layers(graph, roles, scheme)
    if not any(roles[id(node)] is Role.COMPUTE for node in layers):
        raise ConversionError(
            "the graph has no convolution or matrix product that could become INT8",
            hint="keep the float model, or name fewer layers that stay in float",
            code="nothing-to-quantize",
        )
    wanted = {name for node in layers for name in graph.activations(node)}
    for node in reversed(passes):
        if node.output[0] in wanted:
            wanted.add(node.input[0])
    ends = {_end(graph, node, roles): node for node in layers}
    quantized = wanted | {end for end, node in ends.items() if node.op_type not in ("Gemm", "MatMul")}
    groups = _Groups(graph, quantized)
    for node in graph.nodes:
        kind, end = roles[id(node)], node.output[0]
        if kind in (Role.PASS, Role.ACTIVATION) and end in wanted and node.input[0] in quantized:
            # A Relu is measured nevertheless: it has a scale of its own if its input's layer goes back to float.
            groups.join(node.input[0], end, silent=kind is Role.PASS)
    for end, node in ends.items():
        if node.op_type == "Concat" and end == node.output[0]:  # a Clip after it has a narrower range
            for name in dict.fromkeys(graph.activations(node)):
                alone = graph.only_consumer(name) is node and not groups.shared(name)
                if alone or (name in ends and ends[name].op_type == "Concat"):
                    groups.join(name, end)
    scale_of = groups.scale_of()
    return Layout(
        layers=frozenset(node.output[0] for node in layers),
        scale_of=scale_of,
        sources=groups.sources(),
    )


def _integer_layers(graph: Graph, roles: Mapping[int, Role], scheme: Scheme) -> list[NodeProto]:
    """Return the nodes that compute in integers, in graph order."""
    layers = []
    floats: set[str] = set()
    insides = float_insides(graph, roles)
    for node in graph.nodes:
        kind = roles[id(node)]
        if kind in (Role.PASS, Role.ACTIVATION):
            floats |= {node.output[0]} if node.input[0] in floats else set()
            continue
        named = {layer_name(node), node.output[0]} & scheme.float_layers
        asked = kind is not Role.FLOAT and not named and node.output[0] not in insides
        rounded_for_it = node.op_type == "Add" and any(
            _for_floats(graph, name) for name in floats.intersection(node.input)
        )
        if asked and not rounded_for_it:
            layers.append(node)
        else:
            floats |= set(node.output)
    return layers


def _for_floats(graph: Graph, name: str) -> bool:
    """Tell whether no layer reads a tensor in integers: outputs of activations and pools are rounded separately."""
    return all(reader.op_type in ("Add", "Relu", "Clip", "AveragePool") for reader in graph.consumers().get(name, ()))


def _end(graph: Graph, node: NodeProto, roles: Mapping[int, Role]) -> str:
    """Return the tensor at the end of a layer and of the activations that alone follow it."""
    end = node.output[0]
    while (reader := graph.only_consumer(end)) is not None and roles[id(reader)] is Role.ACTIVATION:
        end = reader.output[0]
    return str(end)


class _Groups:
    """Groups of quantized tensors that share a scale, named by the first tensor in graph order."""

    def __init__(self, graph: Graph, quantized: set[str]) -> None:
        every = (*graph.inputs, *(output for node in graph.nodes for output in node.output))
        self._order = [name for name in every if name in quantized]
        self._group = {name: [name] for name in self._order}
        self._silent: set[str] = set()

    def join(self, one: str, other: str, *, silent: bool = False) -> None:
        """Give both groups one scale; a ``silent`` other holds values of the first and need not be measured."""
        merged = list(dict.fromkeys([*self._group[one], *self._group[other]]))
        for name in merged:
            self._group[name] = merged
        if silent:
            self._silent.add(other)

    def shared(self, name: str) -> bool:
        """Tell whether ``name`` shares its scale with another tensor already."""
        return len(self._group[name]) > 1

    def scale_of(self) -> dict[str, str]:
        """Map each tensor to the first of its group."""
        rank = {name: index for index, name in enumerate(self._order)}
        return {name: min(self._group[name], key=rank.__getitem__) for name in self._order}

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Map each group's name to the tensors whose joined ranges become its scale, in graph order."""
        sources: dict[str, tuple[str, ...]] = {}
        for name, root in self.scale_of().items():
            if name not in self._silent:
                sources[root] = (*sources.get(root, ()), name)
        return sources


def check_float_graph(graph: Graph) -> None:
    """Refuse a graph that is quantized, has an opset without per-channel scales, or holds NaN or infinity.

    Raises ``UsageError`` (``already-quantized``), ``ConversionError`` (``opset-too-old``, ``non-finite-weights``).
    """
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        raise UsageError("the model is quantized already", hint="start from the float model", code="already-quantized")
    if graph.opset < OPSET:
        raise ConversionError(
            f"the model has opset {graph.opset}; INT8 with a scale for each channel needs {OPSET}",
            hint="export it again: xxdeploy converts to opset 17",
            code="opset-too-old",
        )
    for name, value in graph.constants.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ConversionError(
                f"weight {name!r} holds NaN or infinity",
                hint="the training run or the weights file is broken; load other weights",
                code="non-finite-weights",
            )
