"""Adapt a model's configuration for export: float32, a free batch axis, the requested input size. Pure data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Config = dict[str, Any]

_FLOATS = frozenset({"float16", "bfloat16", "half", "float64", "double", "mixed_float16", "mixed_bfloat16"})


def in_float32(config: Mapping[str, Any]) -> tuple[Config, tuple[str, ...]]:
    """Return ``config`` with each dtype policy replaced by float32, and a note if another was found.

    16-bit weights convert to float32 exactly; only the rounding between layers changes. Integer inputs (uint8) become
    float32 with the same values.
    """
    replaced: set[str] = set()
    changed = _float32(config, replaced)
    notes = (f"the model computes in {', '.join(sorted(replaced))}; it is exported and measured in float32",)
    return changed, notes if replaced else ()


def _float32(value: Any, replaced: set[str]) -> Any:
    if isinstance(value, list):
        return [_float32(item, replaced) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {
        key: _policy(item, replaced) if key == "dtype" else _float32(item, replaced) for key, item in value.items()
    }
    if changed.get("class_name") == "InputLayer" and isinstance(changed.get("config"), dict):
        changed["config"]["dtype"] = "float32"
    return changed


def _policy(value: Any, replaced: set[str]) -> Any:
    """Return float32 for a float dtype, written as a name or as a policy; integers and booleans stay."""
    if isinstance(value, dict):
        inner = value.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str):
            replaced.update({name} & _FLOATS)
        return "float32"
    if isinstance(value, str) and value in _FLOATS:
        replaced.add(value)
        return "float32"
    return value


def with_free_batch(config: Config) -> tuple[str, ...]:
    """Free the batch axis of every input, in place; return a note when it was fixed."""
    fixed = None
    for layer in input_layers(config):
        shape = layer["config"]["batch_shape"]
        if shape and shape[0] is not None:
            fixed = shape[0] if fixed is None else fixed
            layer["config"]["batch_shape"] = [None, *shape[1:]]
    return () if fixed is None else (f"the model was saved for batches of {fixed}; the bundle takes any batch size",)


def with_input_size(config: Config, size: int | tuple[int, int]) -> None:
    """Set height and width of the input, and of nested models with an input of the same size, in place."""
    height, width = (size, size) if isinstance(size, int) else size
    images = [layer for layer in input_layers(config) if len(layer["config"]["batch_shape"]) == 4]
    if not images:
        return
    before = images[0]["config"]["batch_shape"][1:3]
    for layer in images:
        shape = layer["config"]["batch_shape"]
        if shape[1:3] == before:
            layer["config"]["batch_shape"] = [shape[0], height, width, shape[3]]


def input_layers(config: Any) -> Iterator[Config]:
    """Yield every InputLayer, those of the outer model first."""
    queue = [config]
    while queue:
        value = queue.pop(0)
        if isinstance(value, dict):
            inner = value.get("config")
            if value.get("class_name") == "InputLayer" and isinstance(inner, dict):
                if isinstance(inner.get("batch_shape"), list):
                    yield value
                continue
            queue.extend(value.values())
        elif isinstance(value, list):
            queue.extend(value)
