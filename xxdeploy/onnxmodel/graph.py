"""The graph inside a pass: editable, and never seen outside ``graph/``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.wire import skeleton

Shape = tuple[int | None, ...]


class Graph:
    """An ONNX graph with its weights beside it as numpy arrays.

    ``nodes`` stay in topological order; ``arrays`` maps initializer names to read-only values (replace one,
    never write into it). ``inputs`` and ``outputs`` are names and never change. ``kept`` are the names that no
    pass may take away or give to another value: the outputs, and what the bodies of If, Loop and Scan read from
    outside. The bodies themselves are left as they are; ``inner`` are the names that they define.
    """

    def __init__(self, model: OnnxModel) -> None:
        self._proto, self.arrays = model.split()
        self.nodes: list[onnx.NodeProto] = list(self._proto.graph.node)
        self.outputs = tuple(value.name for value in self._proto.graph.output)
        # Old exporters list initializers among the inputs.
        given = [value for value in self._proto.graph.input if value.name not in self.arrays]
        self.inputs = tuple(value.name for value in given)
        del self._proto.graph.input[:]
        self._proto.graph.input.extend(given)
        self.kept: frozenset[str] = frozenset(self.outputs).union(*(captured(node) for node in self.nodes))
        self.inner = {name for node in self.nodes for body in bodies(node) for name in _written(body)}
        self._names = {name for node in self.nodes for name in node.output} | self.inner | self.kept
        self._names |= set(self.arrays) | set(self.inputs)

    def to_model(self) -> OnnxModel:
        """Return the graph as a value, with only the initializers that a node reads."""
        used = {name for node in self.nodes for name in node.input} | self.kept
        self.arrays = {name: array for name, array in self.arrays.items() if name in used}
        return OnnxModel.join(self.proto(), self.arrays)

    def proto(self) -> onnx.ModelProto:
        """Return the ``ModelProto`` of the present nodes, without weights."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        del proto.graph.node[:]
        proto.graph.node.extend(self.nodes)
        return proto

    def set_proto(self, proto: onnx.ModelProto) -> None:
        """Take over everything but nodes and weights: opset imports, value info."""
        self._proto = proto

    def note(self, key: str, value: str) -> None:
        """Put an entry into the model's metadata."""
        entry = self._proto.metadata_props.add()
        entry.key, entry.value = key, value

    def take_note(self, key: str) -> str | None:
        """Take an entry out of the model's metadata and return its value; None where there is none."""
        for entry in self._proto.metadata_props:
            if entry.key == key:
                self._proto.metadata_props.remove(entry)
                return str(entry.value)
        return None

    def shapes(self) -> Mapping[str, Shape]:
        """Infer the shape of every tensor; None stands for an axis that is free."""
        shapes: dict[str, Shape] = {name: array.shape for name, array in self.arrays.items()}
        for value in self._infer():
            if value.type.tensor_type.HasField("shape"):
                shapes[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
                )
        return shapes

    def kinds(self) -> Mapping[str, int]:
        """Infer the element type (``onnx.TensorProto.DataType``) of every tensor but the initializers."""
        return {value.name: value.type.tensor_type.elem_type for value in self._infer()}

    def _infer(self) -> list[onnx.ValueInfoProto]:
        small = skeleton(self.proto(), self.arrays)
        inferred = onnx.shape_inference.infer_shapes(small, data_prop=True).graph
        return [*inferred.input, *inferred.value_info, *inferred.output]

    def producers(self) -> dict[str, onnx.NodeProto]:
        """Map each tensor to the node that writes it."""
        return {name: node for node in self.nodes for name in node.output if name}

    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """Map each tensor to the nodes that read it (a node twice if it reads it twice)."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                if name:
                    found.setdefault(name, []).append(node)
        return found

    def fresh(self, stem: str) -> str:
        """Return a tensor name that is not taken, and take it."""
        name, count = stem, 1
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        return name

    def add_array(self, stem: str, array: NDArray[Any]) -> str:
        """Add an initializer and return its name."""
        name = self.fresh(stem)
        self.arrays[name] = array
        return name

    def rename(self, names: Mapping[str, str]) -> None:
        """Give tensors and initializers new names, which must be unique; forget what ``value_info`` said of them."""
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        self.arrays = {names.get(name, name): array for name, array in self.arrays.items()}
        self._names = {names.get(name, name) for name in self._names}
        del self._proto.graph.value_info[:]

    def remove(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Take nodes out of the graph."""
        gone = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in gone]

    def rewire(self, names: Mapping[str, str]) -> None:
        """Make every reader of each key read its value instead. Chains are followed."""
        if not names:
            return
        for node in self.nodes:
            if any(name in names for name in node.input):
                node.input[:] = [_follow(name, names) for name in node.input]


def captured(node: onnx.NodeProto) -> frozenset[str]:
    """Return every name that the bodies of a control-flow node mention, so all that they read from outside."""
    names: set[str] = set()
    for body in bodies(node):
        names.update(value.name for value in body.output)
        for inner in body.node:
            names.update(name for name in inner.input if name)
            names |= captured(inner)
    return frozenset(names)


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs inside a node: the branches of If, the body of Loop or Scan."""
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return [graph for item in node.attribute if item.type in kinds for graph in (item.g, *item.graphs)]


def _written(body: onnx.GraphProto) -> Iterator[str]:
    """Yield the names that a body defines, at any depth: the outer graph may not use them again."""
    yield from (value.name for value in (*body.input, *body.initializer))
    for node in body.node:
        yield from node.output
        for inner in bodies(node):
            yield from _written(inner)


def _follow(name: str, names: Mapping[str, str]) -> str:
    while name in names:
        name = names[name]
    return name


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, or ``default``; strings are decoded."""
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set or replace an attribute; None removes it."""
    kept = [item for item in node.attribute if item.name != name]
    if value is not None:
        kept.append(onnx.helper.make_attribute(name, value))
    del node.attribute[:]
    node.attribute.extend(sorted(kept, key=lambda item: item.name))


def per_channel(array: NDArray[Any], channels: int, rank: int) -> NDArray[np.float32] | None:
    """Return ``array`` as ``(channels,)`` if it broadcasts over axis 1 of a tensor of ``rank`` only, else None."""
    if array.dtype != np.float32 or array.ndim > rank:
        return None
    if array.size == 1:
        return np.full(channels, array.reshape(()), np.float32)
    shape = (1,) * (rank - array.ndim) + array.shape
    if shape != (1, channels) + (1,) * (rank - 2):
        return None
    return array.reshape(channels)
