"""The Keras layer of each operation, from the paths of a SavedModel's nodes. Pure data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from xxdeploy.convert.user_model.quarantine.saved_model.operations import ALLOWED, words

_NUMBER = re.compile(r"_\d+$")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.>-]+")
_INSIDE_LAYERS = words("batchnorm separable_conv2d moments Tensordot l2_normalize resize gelu Gelu truediv")
"""Scopes that a layer's own code opens, besides those called after operations."""


def layer_names(
    paths: Sequence[str], *, known: Collection[str] = (), with_weights: Mapping[int, str] | None = None
) -> list[str]:
    """Return the name of the layer that each operation belongs to.

    Parameters
    ----------
    paths : Sequence[str]
        Paths such as ``model/block/conv1/BiasAdd``.
    known : Collection[str]
        The names of the layers, as ``keras_metadata.pb`` has them; empty if the folder has none.
    with_weights : Mapping[int, str] | None
        The name of a variable that an operation reads, such as ``conv1/kernel``, by the place of the operation.
    """
    known = {*known, *(variable.split("/")[-2] for variable in (with_weights or {}).values() if "/" in variable)}
    scopes = [_scope(path.split("/"), known) for path in paths]
    long = [scope for scope in scopes if len(scope) > 1]
    if long and len({scope[0] for scope in long}) == 1 and len(set(scopes)) > 1:
        model = long[0][0]  # the name of the model
        scopes = [scope[1:] if len(scope) > 1 and scope[0] == model else scope for scope in scopes]
    suffix = _suffix(scopes, with_weights or {})
    if suffix:
        scopes = [tuple(part.removesuffix(suffix) or part for part in scope) for scope in scopes]
    last = Counter(scope[-1] for scope in set(scopes))
    names = {scope: scope[-1] if last[scope[-1]] == 1 else "_".join(scope) for scope in set(scopes)}
    return [valid_name(names[scope]) for scope in scopes]


def valid_name(name: str) -> str:
    """Return a name for a layer of Keras, which becomes a scope of TensorFlow."""
    return _NOT_IN_A_NAME.sub("_", name).lstrip("_.>-") or "layer"


def _scope(parts: list[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the path of the layer of an operation: up to a ``known`` layer, or without the scopes inside of layers."""
    for depth in range(1, len(parts)):
        name = parts[depth - 1]
        if name in known or _NUMBER.sub("", name) in known:
            return tuple(parts[:depth])
    outer = parts[:-1]
    while len(outer) > 1 and _is_inside(outer[-1]):
        outer.pop()
    return tuple(outer or parts)


def _is_inside(name: str) -> bool:
    plain = _NUMBER.sub("", name)
    return plain in ALLOWED or plain in _INSIDE_LAYERS


def _suffix(scopes: Sequence[tuple[str, ...]], with_weights: Mapping[int, str]) -> str:
    """Return the ``_1`` that Keras 3 appends to all scopes when it calls a model again to export it, if any."""
    endings: Counter[str] = Counter()
    for index, variable in with_weights.items():
        layer = variable.split("/")[-2] if "/" in variable else None
        name = scopes[index][-1]
        if layer is not None:
            endings[name.removeprefix(layer) if name.startswith(layer) else "other"] += 1
    common = endings.most_common(1)
    return common[0][0] if len(endings) == 1 and common and _NUMBER.fullmatch(common[0][0]) else ""
