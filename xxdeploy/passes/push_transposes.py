"""Move the whole graph from NHWC to NCHW in one sweep, so that one Transpose at the image remains.

TensorFlow is NHWC and ONNX is NCHW, so tf2onnx writes a Transpose before and after each convolution and
pooling. This pass walks the nodes once, in order, and keeps for each NHWC tensor its NCHW *twin*: the
input of a Transpose back to NHWC is a twin of its output; a node that works in any layout, or with
renumbered axes, is written on the twins; a Transpose to NCHW of a tensor with a twin is replaced by the
twin. A tensor in NHWC is written only for a node that needs that layout. The time is linear in the
number of nodes; tf2onnx's own optimizer, which moves one Transpose at a time, is quadratic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, Shape, attribute, captured, set_attribute

_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
_AXIS = (0, 2, 3, 1)
"""The NCHW index of each NHWC axis."""

# fmt: off
_UNARY = frozenset({
    "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus",
    "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
})
# fmt: on
_NARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Where", "PRelu"})


def push_transposes(graph: Graph) -> int:
    """Rewrite the graph in NCHW; return how many Transposes fewer it has."""
    before = sum(node.op_type == "Transpose" for node in graph.nodes)
    _Sweep(graph).run()
    return before - sum(node.op_type == "Transpose" for node in graph.nodes)


class _Sweep:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes = graph.shapes()
        self.consumers = graph.consumers()
        self.twin: dict[str, str] = {}
        self.lazy: set[str] = set()  # NHWC tensors that exist only as their twins, so far
        self.alias: dict[str, str] = {}
        self.out: list[onnx.NodeProto] = []
        self.rules: dict[str, Callable[[onnx.NodeProto], bool]] = {
            "Transpose": self._transpose,
            **dict.fromkeys(("Concat", "Softmax", "LogSoftmax", "Split"), self._axis),
            **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin"), self._reduce),
            "Pad": self._pad,
            "Slice": self._slice,
            "Squeeze": self._squeeze,
            "Reshape": self._flatten,
            **dict.fromkeys(_UNARY, self._unary),
            **dict.fromkeys(_NARY, self._nary),
        }

    def run(self) -> None:
        for node in self.graph.nodes:
            node.input[:] = [self.alias.get(name, name) for name in node.input]
            rule = self.rules.get(node.op_type)
            touches = node.op_type == "Transpose" or any(name in self.lazy for name in node.input)
            if rule is None or not touches or not rule(node):
                for name in (*node.input, *sorted(captured(node))):
                    self._materialize(name)
                self.out.append(node)
        for name in self.graph.outputs:
            self._materialize(name)
        self.graph.nodes = self.out

    def _materialize(self, name: str) -> None:
        if name in self.lazy:
            self.lazy.discard(name)
            self.out.append(
                onnx.helper.make_node("Transpose", [self.twin[name]], [name], name=name + "/nhwc", perm=_TO_NHWC)
            )

    def _twin_of(self, name: str) -> str:
        """Return the NCHW twin of a rank-4 tensor, written by a new Transpose if there is none yet."""
        if name not in self.twin:
            twin = self.graph.fresh(name + "/nchw")
            self.out.append(onnx.helper.make_node("Transpose", [name], [twin], name=twin, perm=_TO_NCHW))
            self.twin[name] = twin
        return self.twin[name]

    def _emit(self, node: onnx.NodeProto, inputs: list[str], *, layout: bool = True) -> bool:
        """Append ``node`` on ``inputs``; its outputs are twins if ``layout``."""
        node.input[:] = inputs
        if layout:
            for index, name in enumerate(node.output):
                self.twin[name] = self.graph.fresh(name + "/nchw")
                self.lazy.add(name)
                node.output[index] = self.twin[name]
        self.out.append(node)
        return True

    def _rank(self, name: str) -> int | None:
        shape: Shape | None = (0,) * 4 if name in self.twin else self.shapes.get(name)
        return None if shape is None else len(shape)

    def _transpose(self, node: onnx.NodeProto) -> bool:
        perm, (source,), (target,) = list(attribute(node, "perm", [])), node.input, node.output
        if perm == _TO_NHWC:
            self._materialize(source)  # two such Transposes in a row
            self.twin[target] = source
            self.lazy.add(target)
            return True
        if perm == _TO_NCHW and source not in self.graph.arrays and target not in self.graph.kept:
            self.alias[target] = self._twin_of(source)
            return True
        return False

    def _unary(self, node: onnx.NodeProto) -> bool:
        return self._emit(node, [self.twin[node.input[0]], *node.input[1:]])

    def _nary(self, node: onnx.NodeProto) -> bool:
        arrays = self.graph.arrays
        if any(arrays[name].ndim > 4 if name in arrays else self._rank(name) != 4 for name in node.input):
            return False
        single = {name for name in node.input if name in arrays and arrays[name].size == 1}
        return self._emit(node, [name if name in single else self._moved(name) for name in node.input])

    def _axis(self, node: onnx.NodeProto) -> bool:
        sources = [name for name in node.input if name] if node.op_type == "Concat" else [node.input[0]]
        if any(self._rank(name) != 4 for name in sources):
            return False
        default = -1 if node.op_type in ("Softmax", "LogSoftmax") else 0
        set_attribute(node, "axis", _AXIS[attribute(node, "axis", default) % 4])
        return self._emit(node, [*map(self._moved, sources), *node.input[len(sources) :]])

    def _moved(self, name: str) -> str:
        """Return the NCHW twin of a tensor, or a constant transposed to NCHW."""
        array = self.graph.arrays.get(name)
        if array is None:
            return self._twin_of(name)
        wide = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(_TO_NCHW)
        return self.graph.add_array(name + "/nchw", wide)

    def _reduce(self, node: onnx.NodeProto) -> bool:
        axes = attribute(node, "axes", None)
        if axes is None:
            return False
        moved = sorted(_AXIS[axis % 4] for axis in axes)
        keep = bool(attribute(node, "keepdims", 1))
        if not keep and moved != [2, 3]:
            return False  # the remaining axes would have another order
        set_attribute(node, "axes", moved)
        return self._emit(node, [self.twin[node.input[0]]], layout=keep)

    def _pad(self, node: onnx.NodeProto) -> bool:
        pads = self.graph.arrays.get(node.input[1])
        if pads is None or pads.size != 8 or len(node.input) > 3:
            return False
        moved = pads.reshape(2, 4)[:, _TO_NCHW].reshape(8)
        name = self.graph.add_array(node.input[1] + "/nchw", moved)
        return self._emit(node, [self.twin[node.input[0]], name, *node.input[2:]])

    def _slice(self, node: onnx.NodeProto) -> bool:
        starts = self.graph.arrays.get(node.input[1])
        if starts is None:
            return False
        given = len(node.input) > 3 and node.input[3] != ""
        axes = self.graph.arrays.get(node.input[3]) if given else np.arange(starts.size)
        if axes is None:
            return False
        moved = np.asarray([_AXIS[int(axis) % 4] for axis in axes], starts.dtype)  # ONNX wants one type for both
        name = self.graph.add_array(node.input[1] + "/axes", moved)
        return self._emit(node, [self.twin[node.input[0]], *node.input[1:3], name, *node.input[4:]])

    def _squeeze(self, node: onnx.NodeProto) -> bool:
        axes = self.graph.arrays.get(node.input[1]) if len(node.input) > 1 else None
        if axes is None or sorted(int(axis) % 4 for axis in axes) != [1, 2]:
            return False
        name = self.graph.add_array(node.input[1] + "/nchw", np.asarray([2, 3], np.int64))
        return self._emit(node, [self.twin[node.input[0]], name], layout=False)

    def _flatten(self, node: onnx.NodeProto) -> bool:
        """Flatten NCHW instead, and permute the rows of the dense layers that read it."""
        target = self.graph.arrays.get(node.input[1])
        shape = self.shapes.get(node.input[0])
        if target is None or target.size != 2 or shape is None or len(shape) != 4:
            return False
        _, height, width, channels = shape
        if height is None or width is None or channels is None or int(target[1]) != height * width * channels:
            return False
        if height * width > 1:
            readers = self.consumers.get(node.output[0], [])
            if node.output[0] in self.graph.kept or not all(
                self._is_dense(reader, node.output[0]) for reader in readers
            ):
                return False
            for reader in readers:
                weight = self.graph.arrays[reader.input[1]]
                rows = weight.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
                reader.input[1] = self.graph.add_array(reader.input[1] + "/nchw", rows.reshape(weight.shape))
        return self._emit(node, [self.twin[node.input[0]], node.input[1]], layout=False)

    def _is_dense(self, node: onnx.NodeProto, source: str) -> bool:
        turned = attribute(node, "transA", 0) or attribute(node, "transB", 0)
        plain = node.op_type == "MatMul" or (node.op_type == "Gemm" and not turned)
        weight = self.graph.arrays.get(node.input[1]) if plain else None  # an activation has no second input
        return plain and node.input[0] == source and weight is not None and weight.ndim == 2
