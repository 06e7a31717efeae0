"""A model's configuration for export: float32, a free batch axis, and the input size that was asked for. Pure data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Config = dict[str, Any]

_FLOATS = frozenset({"float16", "bfloat16", "half", "float64", "double", "mixed_float16", "mixed_bfloat16"})


def in_float32(config: Mapping[str, Any]) -> tuple[Config, tuple[str, ...]]:
    """Return ``config`` with every number format as float32, and a note when another was found.

    Weights of 16 bits are read into float32 unchanged; what differs is the rounding between the layers, which the
    device would have to imitate otherwise. Inputs of whole numbers (uint8) become float32, too: their values do not
    change.
    """
    found: set[str] = set()
    changed = _float32(config, found)
    notes = (f"the model computes in {', '.join(sorted(found))}; it is exported, and measured, in float32",)
    return changed, notes if found else ()


def _float32(value: Any, found: set[str]) -> Any:
    if isinstance(value, list):
        return [_float32(item, found) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _policy(item, found) if key == "dtype" else _float32(item, found) for key, item in value.items()}
    if changed.get("class_name") == "InputLayer" and isinstance(changed.get("config"), dict):
        changed["config"]["dtype"] = "float32"
    return changed


def _policy(value: Any, found: set[str]) -> Any:
    """Return a number format, written as a name or as a policy, in float32; whole numbers and truth values stay."""
    if isinstance(value, dict):
        inner = value.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str):
            found.update({name} & _FLOATS)
        return "float32"
    if isinstance(value, str) and value in _FLOATS:
        found.add(value)
        return "float32"
    return value


def with_free_batch(config: Config) -> tuple[str, ...]:
    """Free the batch axis of every input, in place; return a note when it was fixed."""
    fixed = None
    for layer in _inputs(config):
        shape = layer["config"]["batch_shape"]
        if shape and shape[0] is not None:
            fixed = shape[0] if fixed is None else fixed
            layer["config"]["batch_shape"] = [None, *shape[1:]]
    return () if fixed is None else (f"the model was saved for batches of {fixed}; the bundle takes any",)


def with_input_size(config: Config, size: int | tuple[int, int]) -> None:
    """Set height and width of the input, in place, and of the nested models that get pictures of the same size."""
    height, width = (size, size) if isinstance(size, int) else size
    own = [layer for layer in _inputs(config) if len(layer["config"]["batch_shape"]) == 4]
    if not own:
        return
    before = own[0]["config"]["batch_shape"][1:3]
    for layer in own:
        shape = layer["config"]["batch_shape"]
        if shape[1:3] == before:
            layer["config"]["batch_shape"] = [shape[0], height, width, shape[3]]


def _inputs(config: Any) -> Iterator[Config]:
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
