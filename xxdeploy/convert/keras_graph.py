"""Walk through a built Keras model: its calls in order, and its layers with the paths used in ONNX names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def is_model(operation: Any) -> bool:
    """Return whether a layer is a model with its own graph (Functional or Sequential)."""
    return hasattr(graph(operation), "_nodes_by_depth")


def graph(model: Any) -> Any:
    """Return the Functional model of ``model``; a Sequential model contains one."""
    return getattr(model, "_functional", None) or model


def single_input(model: Any) -> Any:
    """Return the input of a model in the form for ``keras.Model``: a single tensor without its list."""
    inputs = graph(model).inputs
    return inputs[0] if len(inputs) == 1 else inputs


def calls(model: keras.Model) -> Iterator[Any]:
    """Yield each Keras ``Node`` of ``model``, inputs first: ``operation``, ``input_tensors``, ``output_tensors``."""
    by_depth = graph(model)._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def layer_paths(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``path, layer`` of each layer; the path is ``inner/conv1`` for a layer of a nested model."""
    for call in calls(model):
        operation = call.operation
        yield prefix + operation.name, operation
        if is_model(operation):
            yield from layer_paths(operation, f"{prefix}{operation.name}/")


def source(tensor: Any) -> tuple[Any, Any]:
    """Return the operation that computes a Keras tensor, and its call (``Node``)."""
    history = tensor._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index]
