"""Widen depthwise convolutions to a multiple of 16 channels, with channels that stay zero."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, attribute

BLOCK = 16
"""Channels per step of ONNX Runtime's depthwise kernels, for float (NCHWc, AVX-512) and for integers."""

_UNARY = frozenset({"Relu", "Clip", "LeakyRelu", "AveragePool", "MaxPool"})
_LARGEST_GROWTH = 2


def align_channels(graph: Graph) -> int:
    """Give tensors that depthwise convolutions read a multiple of 16 channels; return how many convolutions grew.

    ONNX Runtime has fast depthwise kernels for whole blocks of 16 channels, and one that is up to ten times slower for
    all other counts. NASNetMobile has 11, 22, 44 and 88 channels. Convolutions that write such a tensor get filters of
    zeros, its readers get weights of zero for the new channels: apart from the order of sums the outputs stay the same
    bit by bit. Tensors with an unknown reader or writer stay, and so do those that would more than double.
    """
    plan = _Plan(graph)
    extra = plan.extra()
    count = sum(_widen(graph, node, plan, extra) for node in graph.nodes)
    if count:
        graph.forget_shapes()
    return count


class _Plan:
    """The tensors that have the same channels, and how many channels each gets.

    A tensor's channels are those of its *root*: the output of an operator that works channel by channel has the root of
    the input. Convolutions write a root, or one Concat, whose channels are the inputs' in order, zeros included.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._shapes = graph.shapes()
        self._parent: dict[str, str] = {}
        self._concats: dict[str, onnx.NodeProto] = {}
        fixed: set[str] = {*graph.inputs, *graph.kept}
        concats: list[onnx.NodeProto] = []
        for node in graph.nodes:
            if self._keeps_channels(node):
                for name in self._data(node):
                    self._parent[self.root(node.output[0])] = self.root(name)
            elif node.op_type == "Concat" and attribute(node, "axis", 0) == 1 and self._knows(node):
                concats.append(node)
            elif not self._is_plain(node):
                fixed.update((*node.input, *node.output))
        written: dict[str, int] = defaultdict(int)
        for node in graph.nodes:
            if node.op_type == "Concat" or self._is_plain(node):
                written[self.root(node.output[0])] += 1
        self._fixed = {self.root(name) for name in fixed}
        for node in concats:
            root = self.root(node.output[0])
            self._concats[root] = node
            if written[root] > 1:
                self._fixed.add(root)  # the other operand of its Add has its zeros elsewhere
        self._fix(concats)

    def _fix(self, concats: list[onnx.NodeProto]) -> None:
        """Fix the inputs of each Concat that must keep its channels; repeated, as Concats read Concats."""
        while True:
            before = len(self._fixed)
            for node in concats:
                if self.root(node.output[0]) in self._fixed:
                    self._fixed.update(self.root(name) for name in node.input)
            if len(self._fixed) == before:
                return

    def extra(self) -> dict[str, int]:
        """Map the roots that grow to the number of channels that they get."""
        extra = {}
        for node in self._graph.nodes:
            root = self.root(node.output[0])
            if not self._is_depthwise(node) or root in self._fixed or root in self._concats:
                continue
            channels = len(self._graph.arrays[node.input[1]])
            more = -channels % BLOCK
            if more and channels + more <= _LARGEST_GROWTH * channels:
                extra[root] = more
        return extra

    def layout(self, name: str, extra: dict[str, int], channels: int) -> list[int]:
        """Return for each channel of a tensor its old index, -1 for a new channel."""
        root = self.root(name)
        node = self._concats.get(root)
        if node is None or root in self._fixed:
            return [*range(channels), *[-1] * extra.get(root, 0)]
        old: list[int] = []
        first = 0
        for part in node.input:
            size = self._shapes[part][1]
            assert size is not None
            old += [index if index < 0 else index + first for index in self.layout(part, extra, size)]
            first += size
        return old

    def root(self, name: str) -> str:
        """Return the tensor that represents all with the same channels."""
        while self._parent.get(name, name) != name:
            name = self._parent[name]
        return name

    def _data(self, node: onnx.NodeProto) -> list[str]:
        return [name for name in node.input if name and name not in self._graph.arrays]

    def _knows(self, node: onnx.NodeProto) -> bool:
        shapes = [self._shapes.get(name, ()) for name in (*node.input, *node.output)]
        return all(len(shape) == 4 and shape[1] is not None for shape in shapes) and not any(
            name in self._graph.arrays for name in node.input
        )

    def _is_depthwise(self, node: onnx.NodeProto) -> bool:
        weights = self._graph.arrays.get(node.input[1]) if node.op_type == "Conv" else None
        return weights is not None and weights.shape[1] == 1 and attribute(node, "group", 1) == len(weights) > 1

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        """Tell whether this is a convolution with one group and constant weights."""
        if node.op_type != "Conv" or attribute(node, "group", 1) != 1:
            return False
        arrays = self._graph.arrays
        constant = all(name in arrays for name in node.input[1:] if name) and node.input[0] not in arrays
        return constant and arrays[node.input[1]].ndim == 4

    def _keeps_channels(self, node: onnx.NodeProto) -> bool:
        shapes = [self._shapes.get(name, ()) for name in (*self._data(node), *node.output)]
        if len(node.output) != 1 or any(len(shape) != 4 or shape[1] != shapes[0][1] for shape in shapes):
            return False
        if node.op_type == "Conv":
            return self._is_depthwise(node) and all(name in self._graph.arrays for name in node.input[1:] if name)
        if node.op_type == "Add":
            return len(self._data(node)) == 2
        if node.op_type == "Pad":
            pads = self._graph.arrays.get(node.input[1])
            return pads is not None and len(node.input) < 4 and pads.size == 8 and not any(pads[[0, 1, 4, 5]])
        return node.op_type in _UNARY


def _widen(graph: Graph, node: onnx.NodeProto, plan: _Plan, extra: dict[str, int]) -> bool:
    """Adapt a convolution's weights to the channels of its tensors; return whether it grew."""
    weights = graph.arrays.get(node.input[1]) if node.op_type == "Conv" else None
    if weights is None:
        return False
    depthwise = attribute(node, "group", 1) != 1
    inputs = plan.layout(node.input[0], extra, weights.shape[1] if not depthwise else len(weights))
    more = extra.get(plan.root(node.output[0]), 0)
    grown = weights
    if not depthwise and any(index < 0 for index in inputs):
        grown = np.concatenate([weights, np.zeros_like(weights[:, :1])], axis=1)[:, inputs]
    if more:
        grown = np.concatenate([grown, np.zeros((more, *grown.shape[1:]), grown.dtype)])
    if grown is weights:
        return False
    node.input[1] = graph.add_array(f"{node.name}/aligned", np.ascontiguousarray(grown))
    if more and len(node.input) > 2 and node.input[2]:
        bias = graph.arrays[node.input[2]]
        node.input[2] = graph.add_array(f"{node.name}/aligned_bias", np.concatenate([bias, np.zeros(more, bias.dtype)]))
    if more and depthwise:
        next(item for item in node.attribute if item.name == "group").i = len(grown)
    return True
