"""Walking through a built Keras model: calls in their order, layers with the path that the ONNX names use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def is_model(operation: Any) -> bool:
    """Tell whether a layer is a model with a graph of its own (Functional or Sequential)."""
    return hasattr(graph(operation), "_nodes_by_depth")


def graph(model: Any) -> Any:
    """Return the Functional model that computes ``model``: a Sequential one keeps it inside."""
    return getattr(model, "_functional", None) or model


def single_input(model: Any) -> Any:
    """Return the input of a model as ``keras.Model`` wants it: one tensor stands alone, not in a list of one."""
    inputs = graph(model).inputs
    return inputs[0] if len(inputs) == 1 else inputs


def calls(model: keras.Model) -> Iterator[Any]:
    """Yield each Keras ``Node`` of ``model``, inputs first: ``operation``, ``input_tensors``, ``output_tensors``."""
    by_depth = graph(model)._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def layer_paths(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``path, layer`` of every layer, ``inner/conv1`` for those of a model inside the model."""
    for call in calls(model):
        operation = call.operation
        yield prefix + operation.name, operation
        if is_model(operation):
            yield from layer_paths(operation, f"{prefix}{operation.name}/")


def source(tensor: Any) -> tuple[Any, Any]:
    """Return the operation that makes a Keras tensor, and its call (``Node``)."""
    history = tensor._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index]
