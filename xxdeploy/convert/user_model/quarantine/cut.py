"""Cut a configuration off at a layer, before anything downstream of it is judged. Pure data; imports nothing.

A model that is trained with a CTC loss (Graves et al. 2006, Connectionist temporal classification) often holds that
loss as a layer: an input for the true text, and a ``CTCLayer`` or a ``Lambda``, which are code. The network that reads
pictures ends before them, at a softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Config = dict[str, Any]


def cut_at(config: Mapping[str, Any], layer: str) -> Config | None:
    """Return the part of a model that computes ``layer``; None if that is the whole model, or ``layer`` is unknown.

    ``config`` is a configuration of Keras 2 or 3, ``layer`` the name of a layer, or ``inner/conv`` for one of a nested
    model: the nested model stays whole.
    """
    layers, name = _layers(config), layer.partition("/")[0]
    if name not in layers:
        return None
    inner = config["config"]
    if "output_layers" not in inner:  # a Sequential: each layer reads the one before it
        place = list(layers).index(name) + 1
        kept = inner["layers"][:place]
        return None if place == len(layers) else {**config, "config": {**inner, "layers": kept}}
    needed = _upstream(layers, name)
    if len(needed) == len(layers):
        return None
    references = (reference for other in (inner, *layers.values()) for reference in _references(other, layers))
    end = next((reference for reference in references if reference[0] == name), [name, 0, 0])[:3]
    changed = {
        "layers": [item for item in inner["layers"] if _name(item) in needed],
        "input_layers": _among(inner.get("input_layers"), needed),
        "output_layers": [end],
    }
    return {**config, "config": {**inner, **changed}}


def inputs_of(config: Mapping[str, Any]) -> int:
    """Return the number of inputs that a model declares, 1 for a ``Sequential``."""
    inner = config.get("config")
    ends = inner.get("input_layers") if isinstance(inner, dict) else None
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        return 1
    return len(ends) if isinstance(ends, (list, dict)) else 1


def softmax_before(config: Mapping[str, Any], layer: str) -> str | None:
    """Return the name of the nearest layer upstream of ``layer`` that ends in a softmax, None if there is none."""
    layers = _layers(config)
    queue, seen = [layer], {layer}
    while queue:
        name = queue.pop(0)
        item = layers.get(name)
        if item is None:
            continue
        if name != layer and _ends_in_softmax(item):
            return name
        for reference in _references(item.get("inbound_nodes"), layers):
            if reference[0] not in seen:
                seen.add(reference[0])
                queue.append(reference[0])
    return None


def layer_order(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return name and class of each layer of the outer model, in the order of the file, without operations."""
    layers = _layers(config).items()
    kinds = ((name, str(item.get("class_name")), str(item.get("module"))) for name, item in layers)
    return tuple((name, kind) for name, kind, module in kinds if not module.startswith("keras.src.ops"))


def left_out(order: Iterable[tuple[str, str]], part: Mapping[str, Any]) -> str:
    """Return the names, with classes, of the layers of a file that are not in ``part`` of it."""
    kept = _layers(part)
    return ", ".join(f"{name} ({kind})" for name, kind in order if name not in kept)[:300]


def _layers(config: Mapping[str, Any]) -> dict[str, Config]:
    """Map the name of each layer of the outer model to its configuration."""
    inner = config.get("config")
    items = inner.get("layers") if isinstance(inner, dict) else None
    return {_name(item): item for item in items if isinstance(item, dict)} if isinstance(items, list) else {}


def _name(item: Any) -> str:
    inner = item.get("config") if isinstance(item, dict) else None
    own = inner.get("name") if isinstance(inner, dict) else None
    return str((item.get("name") if isinstance(item, dict) else None) or own)


def _upstream(layers: Mapping[str, Config], name: str) -> set[str]:
    """Return ``name`` and every layer that it depends on."""
    needed, queue = {name}, [name]
    while queue:
        for reference in _references(layers[queue.pop()].get("inbound_nodes"), layers):
            if reference[0] not in needed:
                needed.add(reference[0])
                queue.append(reference[0])
    return needed


def _references(value: Any, layers: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield each ``[layer, call, tensor, ...]`` inside ``value``: so both versions of Keras name a tensor."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            numbered = len(item) >= 3 and isinstance(item[0], str) and all(type(part) is int for part in item[1:3])
            if numbered and item[0] in layers:
                yield item
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(value for key, value in item.items() if key != "layers")


def _among(ends: Any, needed: set[str]) -> Any:
    if isinstance(ends, dict):
        return {key: end for key, end in ends.items() if end[0] in needed}
    if isinstance(ends, list) and ends and isinstance(ends[0], list):
        left = [end for end in ends if end[0] in needed]
        return left[0] if len(left) == 1 else left
    return ends


def _ends_in_softmax(item: Mapping[str, Any]) -> bool:
    inner = item.get("config")
    activation = inner.get("activation") if isinstance(inner, dict) else None
    if isinstance(activation, dict):
        activation = activation.get("config")
    return activation == "softmax" or item.get("class_name") == "Softmax"
