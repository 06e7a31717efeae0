"""The graph of an ONNX model, indexed and editable: nodes as messages, weights as numpy arrays."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.wire import skeleton
from xxdeploy.optional import extra

with extra("export"):
    import onnx

Shape = tuple[int | None, ...]


class Graph:
    """An ONNX graph: ``nodes`` in topological order, ``arrays`` by name, and a ``header`` with everything else.

    Indices (``producers``, ``consumers``, ``constants``, ``shapes``, ...) are computed when first asked for. They are
    dropped when ``nodes`` is assigned and by the methods that edit. Code that edits a node or the list in place calls
    :meth:`drop_indices` before it asks again. An index that was returned stays as it is: a snapshot. Raises
    ``ConversionError`` (``unreadable-onnx``).

    Attributes
    ----------
    header : onnx.ModelProto
        Inputs, outputs, known shapes, opset imports and metadata; to be edited in place.
    arrays : dict
        The initializers, read-only views of the model's bytes. Replace an array, never write into it.
    inputs, outputs : tuple of str
        They never change. Initializers that an old exporter lists among the inputs are not inputs.
    kept : frozenset of str
        Names that no edit may remove or give to another value: the outputs, and those that the bodies of If, Loop
        and Scan read from outside. The bodies stay as they are; ``inner`` are the names that they define.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.header, self.arrays = model.split()
        graph = self.header.graph
        self._nodes: list[onnx.NodeProto] = list(graph.node)
        del graph.node[:]
        inputs = [value for value in graph.input if value.name not in self.arrays]
        self.inputs = tuple(value.name for value in inputs)
        self.outputs = tuple(value.name for value in graph.output)
        del graph.input[:]
        graph.input.extend(inputs)
        self.kept: frozenset[str] = frozenset(self.outputs).union(*(captured(node) for node in self._nodes))
        self.inner = {name for node in self._nodes for body in bodies(node) for name in _written(body)}
        self._names = {name for node in self._nodes for name in node.output} | self.inner | self.kept
        self._names |= set(self.arrays) | set(self.inputs)
        self.drop_indices()

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes, in topological order."""
        return self._nodes

    @nodes.setter
    def nodes(self, nodes: list[onnx.NodeProto]) -> None:
        self._nodes = nodes
        self.drop_indices()

    def drop_indices(self) -> None:
        """Forget the indices: nodes have been edited in place."""
        self._producers: dict[str, onnx.NodeProto] | None = None
        self._consumers: dict[str, list[onnx.NodeProto]] | None = None
        self._computed: dict[str, NDArray[Any]] | None = None
        self._values: list[onnx.ValueInfoProto] | None = None
        self._floats: frozenset[str] | None = None

    def to_model(self) -> OnnxModel:
        """Return the graph as a model, with only the initializers that a node reads."""
        return OnnxModel.join(self.proto(), self.used_arrays())

    def used_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the initializers that a node reads, or that are ``kept``."""
        used = {name for node in self.nodes for name in node.input} | self.kept
        return {name: array for name, array in self.arrays.items() if name in used}

    def with_nodes(self, nodes: list[onnx.NodeProto]) -> OnnxModel:
        """Return the model with other nodes, whose inner shapes are no longer stated."""
        self.nodes = nodes
        self.forget_shapes()
        return self.to_model()

    def proto(self) -> onnx.ModelProto:
        """Return a new ``ModelProto`` with the present nodes, without weights."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.header)
        proto.graph.node.extend(self.nodes)
        return proto

    @property
    def opset(self) -> int:
        """The version of the standard operators, 0 if the model imports none."""
        return max((item.version for item in self.header.opset_import if item.domain in ("", "ai.onnx")), default=0)

    def note(self, key: str, value: str) -> None:
        """Put an entry into the model's metadata."""
        entry = self.header.metadata_props.add()
        entry.key, entry.value = key, value

    def take_note(self, key: str) -> str | None:
        """Take an entry out of the model's metadata and return its value; None if there is none."""
        for entry in self.header.metadata_props:
            if entry.key == key:
                self.header.metadata_props.remove(entry)
                return str(entry.value)
        return None

    def forget_shapes(self) -> None:
        """Remove the shapes and types that the model states of inner tensors: an edit made them wrong."""
        del self.header.graph.value_info[:]

    def producers(self) -> Mapping[str, onnx.NodeProto]:
        """Map each tensor to the node that writes it."""
        if self._producers is None:
            self._producers = {name: node for node in self.nodes for name in node.output if name}
        return self._producers

    def consumers(self) -> Mapping[str, list[onnx.NodeProto]]:
        """Map each tensor to the nodes that read it (a node twice if it reads it twice)."""
        if self._consumers is None:
            self._consumers = {}
            for node in self.nodes:
                for name in node.input:
                    if name:
                        self._consumers.setdefault(name, []).append(node)
        return self._consumers

    @property
    def constants(self) -> Mapping[str, NDArray[Any]]:
        """The initializers and the values of ``Constant`` nodes."""
        if self._computed is None:
            tensors = {
                node.output[0]: attribute(node, "value", None) for node in self.nodes if node.op_type == "Constant"
            }
            self._computed = {
                name: np.asarray(onnx.numpy_helper.to_array(tensor))
                for name, tensor in tensors.items()
                if tensor is not None
            }
        return ChainMap(self._computed, self.arrays) if self._computed else self.arrays

    def activations(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """Return the inputs of ``node`` that are neither constant nor left out."""
        return tuple(name for name in node.input if name and name not in self.constants)

    def only_consumer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the one node that reads ``tensor``; None for none, several, or a tensor that is ``kept``."""
        readers = self.consumers().get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self.kept else None

    def shapes(self) -> Mapping[str, Shape]:
        """Infer the shape of every tensor; None stands for an axis that is free."""
        shapes: dict[str, Shape] = {name: array.shape for name, array in self.arrays.items()}
        for value in self._inferred():
            if value.type.tensor_type.HasField("shape"):
                shapes[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
                )
        return shapes

    def types(self) -> Mapping[str, int]:
        """Infer the element type (``onnx.TensorProto.DataType``) of every tensor but the initializers."""
        return {value.name: value.type.tensor_type.elem_type for value in self._inferred()}

    @property
    def floats(self) -> frozenset[str]:
        """The float32 tensors that are not constant."""
        if self._floats is None:
            names = {name for name, kind in self.types().items() if kind == onnx.TensorProto.FLOAT}
            self._floats = frozenset(names - self.constants.keys())
        return self._floats

    def _inferred(self) -> list[onnx.ValueInfoProto]:
        if self._values is None:
            small = skeleton(self.proto(), self.arrays)
            inferred = onnx.shape_inference.infer_shapes(small, data_prop=True).graph
            self._values = [*inferred.input, *inferred.value_info, *inferred.output]
        return self._values

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
        """Give tensors and initializers new names, which must be unique; forget the shapes stated under the old."""
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        self.arrays = {names.get(name, name): array for name, array in self.arrays.items()}
        self._names = {names.get(name, name) for name in self._names}
        self.forget_shapes()
        self.drop_indices()

    def remove(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Take nodes out of the graph."""
        removed = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in removed]

    def position(self, node: onnx.NodeProto) -> int:
        """Return the index of ``node``; nodes are compared by identity, not by value."""
        return next(index for index, other in enumerate(self.nodes) if other is node)

    def rewire(self, names: Mapping[str, str]) -> None:
        """Make every reader of each key read its value instead. Chains are followed."""
        for node in self.nodes if names else ():
            if any(name in names for name in node.input):
                node.input[:] = [_follow(name, names) for name in node.input]
        self.drop_indices()


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


def layer_name(node: onnx.NodeProto) -> str:
    """Return the node's name, or its first output if it has none."""
    return str(node.name or node.output[0])


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of ``node`` as Python values; strings are decoded."""
    return {item.name: _value(item) for item in node.attribute}


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, or ``default``; strings are decoded."""
    return next((_value(item) for item in node.attribute if item.name == name), default)


def _value(item: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(item)
    return value.decode() if isinstance(value, bytes) else value


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
