"""The output of each layer of a Keras model, under the name of the same tensor in the ONNX graph."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_graph import single_input
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import feeds_of

if TYPE_CHECKING:
    import keras


class LayerValues:
    """Run a Keras model and return the outputs of its layers by the names of ONNX tensors.

    A tensor is called ``layer/operation``. If layers are folded into the one before (batch normalization into a
    convolution), the tensor is the output of the last folded layer. Layers of nested models, and layers that are called
    twice, are left out. ``graph`` is the float graph converted from ``model``; only its names are read.
    """

    def __init__(self, model: keras.Model, graph: OnnxModel) -> None:
        library = load_keras()
        self.tensors: dict[str, str] = {}
        proto = graph.split()[0]
        outputs = {layer.name: value for layer in model.layers if (value := _output(layer)) is not None}
        last: dict[str, str] = {}
        for node in proto.graph.node:
            last[_layer(node.name, outputs)] = node.output[0]
        follower = _followers(model, outputs)
        wanted: dict[str, Any] = {}
        for layer, tensor in last.items():
            end = layer if layer in outputs else None
            while end is not None and (after := follower.get(end)) is not None and after not in last:
                if tuple(outputs[after].shape) != tuple(outputs[layer].shape):
                    break
                end = after
            if end is not None:
                wanted[tensor] = outputs[end]
                self.tensors[tensor] = end
        for output, value in zip(proto.graph.output, model.outputs, strict=True):
            wanted[output.name] = value
            self.tensors.setdefault(output.name, value._keras_history.operation.name)
        self._names = tuple(wanted)
        self._inputs = list(proto.graph.input)
        self._model = library.Model(single_input(model), list(wanted.values()))

    def run(
        self, batch: NDArray[np.float32], like: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """Map a batch (n, h, w, c) float32 to values by tensor, in the axis order of the graph's values ``like``."""
        by_tensor: dict[str, NDArray[np.float32]] = dict(feeds_of(self._inputs, batch))
        parts = list(by_tensor.values())
        values = self._model(parts[0] if len(parts) == 1 else parts, training=False)
        for name, value in zip(self._names, values, strict=True):
            array = np.asarray(value, np.float32)
            if name in like and array.ndim == 4 and array.shape != like[name].shape:
                array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
            elif name in like and array.ndim == 4 and len(set(array.shape[1:])) == 1:  # both orders have this shape
                other = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
                nearer = np.abs(other - like[name]).sum() < np.abs(array - like[name]).sum()
                array = other if nearer else array
            if name not in like or array.shape == like[name].shape:
                by_tensor[name] = array
        return by_tensor


def _layer(node: str, layers: Container[str]) -> str:
    """Return the layer of a node: the longest prefix of its name that is a layer."""
    name = node
    while name and name not in layers:
        name = name.rpartition("/")[0]
    return name or node


def _output(layer: Any) -> Any:
    try:
        value = layer.output
    except (AttributeError, ValueError):  # called twice, or not at all
        return None
    return value if hasattr(value, "shape") else None


def _followers(model: Any, outputs: Mapping[str, Any]) -> dict[str, str]:
    """Map each layer with a single reader to that reader."""
    readers: dict[str, list[str]] = {}
    for layer in model.layers:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                readers.setdefault(tensor._keras_history.operation.name, []).append(layer.name)
    return {name: reading[0] for name, reading in readers.items() if len(reading) == 1 and reading[0] in outputs}
