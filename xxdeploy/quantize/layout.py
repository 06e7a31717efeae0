"""Decide where a graph becomes integer: which layers, which tensors, and which tensors share a scale.

The rules, each because ONNX Runtime needs it to find an integer kernel, or because it costs nothing:

- A layer reads integers and writes integers. A Relu or Clip that alone reads the layer's output goes in between,
  without a quantiser of its own: the quantiser behind it clips at the same place, and the activation becomes free.
- Gemm and MatMul may write float, and do where nothing integer reads them: a classifier's logits keep their precision.
- Operators that only move or pick values (MaxPool, Reshape, Transpose, ...) keep the input's scale, so nothing is
  rounded twice. They join where an integer layer reads what they make.
- A tensor is quantised once, for all that read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xxdeploy.errors import ConversionError
from xxdeploy.optional import extra
from xxdeploy.quantize.graph_view import GraphView, layer_name
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.support import CPU, Role, role

with extra("export"):
    from onnx import NodeProto


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the integers are.

    ``layers`` holds the integer layers by their first output. ``scale_of`` maps every quantised activation to the
    tensor that names its scale. ``sources`` maps that one to the tensors whose ranges, joined, make the scale: usually
    itself alone.
    """

    layers: frozenset[str]
    scale_of: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]

    @property
    def measured(self) -> tuple[str, ...]:
        """The tensors that calibration has to see, in graph order."""
        return tuple(dict.fromkeys(name for names in self.sources.values() for name in names))


def plan_layout(view: GraphView, scheme: Scheme, table: Mapping[str, Role] = CPU) -> Layout:
    """Lay ``scheme`` out over the graph, for a target with the support ``table``.

    Raises
    ------
    ConversionError
        ``nothing-to-quantize``: the graph has no layer that the target runs in integers.
    """
    roles = {id(node): role(view, node, table) for node in view.nodes}
    passes = [node for node in view.nodes if roles[id(node)] is Role.PASS]
    layers = [
        node
        for node in view.nodes
        if roles[id(node)] in (Role.COMPUTE, Role.ARITHMETIC)
        and not {layer_name(node), node.output[0]} & scheme.float_layers
    ]
    if not any(roles[id(node)] is Role.COMPUTE for node in layers):
        raise ConversionError(
            "the graph has no convolution or matrix product that could become INT8",
            hint="keep the float model, or name fewer layers that stay in float",
            code="nothing-to-quantize",
        )
    wanted = {name for node in layers for name in view.activations(node)}
    for node in reversed(passes):
        if node.output[0] in wanted:
            wanted.add(node.input[0])
    ends = {_end(view, node, roles): node for node in layers}
    written = {end for end, node in ends.items() if node.op_type not in ("Gemm", "MatMul")}
    owner = {node.output[0]: node.input[0] for node in passes if node.output[0] in wanted}
    scale_of: dict[str, str] = {}
    for name in (*view.inputs, *(output for node in view.nodes for output in node.output)):
        if name in wanted or name in written:
            scale_of[name] = scale_of[owner[name]] if name in owner else name
    return Layout(
        layers=frozenset(node.output[0] for node in layers),
        scale_of=scale_of,
        sources={root: (root,) for root in scale_of.values()},
    )


def _end(view: GraphView, node: NodeProto, roles: Mapping[int, Role]) -> str:
    """Return the tensor that a layer writes once the activations that follow it alone are counted in."""
    end = node.output[0]
    while (reader := view.only_consumer(end)) is not None and roles[id(reader)] is Role.ACTIVATION:
        end = reader.output[0]
    return str(end)
