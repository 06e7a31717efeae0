"""Facts of a model file for a person, from its configuration: counted, never judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xxdeploy.convert.user_model.quarantine.known import MODELS

_MOST_NAMES = 20
_NOT_OF_THE_MODEL = ("optimizer", "compile_metrics", "metrics", "_tracker")


def facts_of(config: Any) -> dict[str, Any]:
    """Return ``name``, ``layers`` (with those of nested models, without inputs), ``inputs`` and ``outputs``.

    ``inputs`` are ``[name, shape]`` with the batch axis, ``outputs`` names of layers. What a configuration does not say
    is left out, and nothing in it makes this fail.
    """
    inner = config.get("config") if isinstance(config, dict) else None
    if isinstance(inner, list):  # a Sequential of Keras up to 2.2.2
        inner = {"layers": inner}
    if not isinstance(inner, dict) or not isinstance(inner.get("layers"), list):
        return {}
    layers = [layer for layer in inner["layers"] if isinstance(layer, dict)]
    names = {str(_name(layer)): layer for layer in layers}
    functional = isinstance(inner.get("output_layers"), (list, dict))
    ends = _ends(inner.get("input_layers"))
    starts = [names[name] for name in ends if name in names] if functional else layers[:1]
    inputs = [[_name(layer), shape] for layer in starts if (shape := _shape(layer)) is not None]
    outputs = _ends(inner.get("output_layers")) if functional else [_name(layer) for layer in layers[-1:]]
    return {
        "name": str(inner.get("name") or config.get("class_name")),
        "layers": sum(1 for _ in _layers(layers)),
        "inputs": inputs[:_MOST_NAMES],
        "outputs": outputs[:_MOST_NAMES],
    }


def count_parameters(file: Any) -> int:
    """Return the count of numbers in an open HDF5 file that are the model's, not those of its optimizer."""
    root = file.get("model_weights", file)
    total = 0

    def add(name: str, item: Any) -> None:
        nonlocal total
        if hasattr(item, "size") and not name.startswith(_NOT_OF_THE_MODEL):
            total += int(item.size or 0)

    root.visititems(add)
    return total


def _layers(layers: list[Any]) -> Iterator[Any]:
    stack = list(layers)
    while stack:
        layer = stack.pop()
        if not isinstance(layer, dict):
            continue
        inner = layer.get("config")
        nested = inner if isinstance(inner, list) else inner.get("layers") if isinstance(inner, dict) else None
        if layer.get("class_name") in MODELS and isinstance(nested, list):
            stack.extend(nested)
        elif layer.get("class_name") != "InputLayer":
            yield layer


def _name(layer: dict[str, Any]) -> str:
    inner = layer.get("config")
    return str(layer.get("name") or (inner.get("name") if isinstance(inner, dict) else None) or layer.get("class_name"))


def _ends(ends: Any) -> list[str]:
    """Return the names of the layers in ``input_layers`` or ``output_layers``: one, a list, or a dictionary."""
    if isinstance(ends, dict):
        ends = list(ends.values())
    if not isinstance(ends, list) or not ends:
        return []
    if isinstance(ends[0], str):
        return [ends[0]]
    return [name for end in ends for name in _ends(end)]


def _shape(layer: Any) -> list[Any] | None:
    """Return the shape with the batch axis that a first layer declares."""
    inner = layer.get("config") if isinstance(layer, dict) else None
    if not isinstance(inner, dict):
        return None
    for key in ("batch_shape", "batch_input_shape"):
        shape = inner.get(key)
        if isinstance(shape, list) and all(size is None or isinstance(size, int) for size in shape):
            return shape
    nested = inner.get("layers")
    return _shape(nested[0]) if isinstance(nested, list) and nested else None
