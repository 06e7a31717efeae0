"""A small indexed view over an ONNX model: who makes a tensor, who reads it, what is constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.wire import skeleton
from xxdeploy.optional import extra

with extra("export"):
    import onnx
    from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


@dataclass(frozen=True, slots=True)
class GraphView:
    """Indices over one parsed model. The proto belongs to the view and is not edited.

    ``proto`` has no initializers: those are ``arrays``, read-only views of the model's own bytes. ``constants`` are
    the same and the values of ``Constant`` nodes. ``producers`` maps a tensor to the node that makes it, ``consumers``
    to the nodes that read it (a node once for each time it reads it), ``floats`` names the float32 activations.
    """

    proto: ModelProto
    arrays: Mapping[str, NDArray[Any]]
    constants: Mapping[str, NDArray[Any]]
    producers: Mapping[str, NodeProto]
    consumers: Mapping[str, tuple[NodeProto, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    floats: frozenset[str]

    @classmethod
    def of(cls, model: OnnxModel) -> GraphView:
        """Index ``model``, with the types that ONNX's shape inference finds.

        Raises
        ------
        ConversionError
            ``unreadable-onnx``.
        """
        proto, arrays = model.split()
        constants: dict[str, NDArray[Any]] = dict(arrays)
        producers: dict[str, NodeProto] = {}
        consumers: dict[str, list[NodeProto]] = {}
        for node in proto.graph.node:
            producers.update((name, node) for name in node.output if name)
            for name in node.input:
                if name:
                    consumers.setdefault(name, []).append(node)
            if node.op_type == "Constant" and "value" in (values := attributes(node)):
                constants[node.output[0]] = np.asarray(numpy_helper.to_array(values["value"]))
        typed = onnx.shape_inference.infer_shapes(skeleton(proto, arrays)).graph
        infos = [*typed.value_info, *typed.input, *typed.output]
        floats = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
        return cls(
            proto=proto,
            arrays=arrays,
            constants=constants,
            producers=producers,
            consumers={name: tuple(nodes) for name, nodes in consumers.items()},
            inputs=tuple(info.name for info in proto.graph.input if info.name not in arrays),
            outputs=tuple(info.name for info in proto.graph.output),
            floats=frozenset(floats - constants.keys()),
        )

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        """The nodes, in the topological order that ONNX asks for."""
        return tuple(self.proto.graph.node)

    def activations(self, node: NodeProto) -> tuple[str, ...]:
        """Inputs of ``node`` that are neither constant nor left out."""
        return tuple(name for name in node.input if name and name not in self.constants)

    def only_consumer(self, tensor: str) -> NodeProto | None:
        """Return the one node that reads ``tensor``; None for none, several, or a graph output."""
        readers = self.consumers.get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


def with_nodes(proto: ModelProto, nodes: Iterable[NodeProto], arrays: Mapping[str, NDArray[Any]]) -> OnnxModel:
    """Return the model that ``proto``, which is changed, becomes with other nodes, and with the arrays they read.

    What it says of the shapes inside is forgotten.
    """
    kept = list(nodes)
    del proto.graph.node[:], proto.graph.value_info[:]
    proto.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    return OnnxModel.join(proto, {name: array for name, array in arrays.items() if name in used})


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of ``node`` as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def layer_name(node: NodeProto) -> str:
    """Return what a layer is called: the node's name, or its first output where it has none."""
    return node.name or node.output[0]
