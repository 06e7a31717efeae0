"""A strict reader of a model's configuration: each class and function that it names must be in ``known``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from xxdeploy.convert.user_model.lambdas.marshal_code import UnknownCodeError
from xxdeploy.convert.user_model.lambdas.replace import translated
from xxdeploy.convert.user_model.quarantine.archive import unsafe
from xxdeploy.convert.user_model.quarantine.cut import softmax_before
from xxdeploy.convert.user_model.quarantine.known import ACTIVATIONS, is_known, layers_of_networks
from xxdeploy.convert.user_model.quarantine.refused import reason_for
from xxdeploy.errors import ConversionError, UsageError

_MAX_DEPTH = 120
_MAX_VALUES = 1_000_000  # NASNetLarge has 62 thousand
_VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__", "__bytes__"})
_FUNCTION_PLACES = frozenset({None, "builtins", "keras.activations", "keras.ops", "keras.src.activations.activations"})
_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def read_config(text: bytes, path: Path) -> dict[str, Any]:
    """Parse a configuration from JSON.

    Raises
    ------
    ConversionError
        ``damaged-model``: not a JSON object with a class and its configuration. ``unsafe-model``: nested too deeply,
        or too many values.
    """
    try:
        config = json.loads(text)
        if isinstance(config, str):  # json.dump(model.to_json(), file) writes it as a quoted text
            config = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise _no_model(path, str(error)) from error
    stack, values = [(config, 0)], 0
    while stack:
        value, depth = stack.pop()
        values += 1
        if depth > _MAX_DEPTH or values > _MAX_VALUES:
            raise unsafe(path, f"its configuration is nested over {_MAX_DEPTH} deep, or has over a million values")
        if isinstance(value, dict):
            stack.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            stack.extend((item, depth + 1) for item in value)
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise _no_model(path, "it names no class")
    layers = config["class_name"] == "Sequential" and isinstance(config.get("config"), list)  # up to Keras 2.2.2
    if not layers and not isinstance(config.get("config"), dict):
        raise _no_model(path, "the class has no configuration")
    return config


def without_training(config: Any) -> Any:
    """Return ``config`` without losses, optimizers and metrics, which are not exported and need not be safe."""
    if isinstance(config, dict):
        return {key: without_training(value) for key, value in config.items() if key != "compile_config"}
    return [without_training(value) for value in config] if isinstance(config, list) else config


def check_classes(
    config: Mapping[str, Any],
    path: Path,
    *,
    custom: Collection[str],
    unsafe_lambda: bool,
    version: str | None = None,
) -> None:
    """Refuse a configuration that would make Keras import, call or open anything that is not in ``known``.

    Parameters
    ----------
    config : Mapping[str, Any]
        From :func:`read_config`, without the training part.
    path : Path
        The file, for messages.
    custom : Collection[str]
        Names of the user's own classes and functions, which may be used.
    unsafe_lambda : bool
        Whether Python code inside the file may run.
    version : str | None
        The version of Keras that wrote the file, None if unknown.

    Raises
    ------
    UsageError
        ``custom-object``: a class or function outside Keras; ``lambda-layer``: Python code in the file;
        ``unsupported-layer``: a name of Keras that ``refused`` has a reason for.
    ConversionError
        ``unsafe-model``: a module that no model needs, such as ``os``.
    """
    networks = layers_of_networks({layer for _, layer in _objects(config)})
    for item, layer in _objects(config):
        name, module, registered = item["class_name"], item.get("module"), item.get("registered_name")
        if not isinstance(name, str) or not isinstance(module, str | None) or not isinstance(registered, str | None):
            raise _no_model(path, "a class has no name")
        if name in _VALUES:
            continue
        if name in ("__lambda__", "Lambda"):
            if not unsafe_lambda and not _calls_custom(item, custom):
                raise _cut_hint(_lambda(path, layer, item, version), config, layer)
        elif name == "function":
            _check_function(item.get("config"), module, path, layer, custom)
        elif not (_own_name(name, registered) in custom or name in custom):
            if registered not in (None, "", name):
                raise _cut_hint(_stranger(path, layer, registered, module), config, layer)
            if not (is_known(name, module) or (module is None and name in networks)):
                raise _cut_hint(_stranger(path, layer, name, module), config, layer)
        if any(isinstance(node, dict) and node and not _reads_tensor(node) for node in _nodes(item)):
            raise unsafe(path, f"the layer {layer!r} is called on constants, so loading would compute it")
    for activation, layer in _activations(config):
        if activation not in ACTIVATIONS and activation not in custom:
            raise _stranger(path, layer, activation, None)


def _objects(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each serialized object with the name of the layer that contains it."""
    stack = [(config, "")]
    while stack:
        value, layer = stack.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                inner = value.get("config")
                own = inner.get("name") if isinstance(inner, dict) else None
                layer = own if isinstance(own, str) else layer
                yield value, layer
            stack.extend((item, layer) for item in value.values())
        elif isinstance(value, list):
            stack.extend((item, layer) for item in value)


def _nodes(item: Mapping[str, Any]) -> list[Any]:
    nodes = item.get("inbound_nodes")
    return nodes if isinstance(nodes, list) else []


def _reads_tensor(node: Any) -> bool:
    return any(item["class_name"] == "__keras_tensor__" for item, _ in _objects(node))


def _activations(config: Any) -> Iterator[tuple[str, str]]:
    for item, layer in _objects(config):
        inner = item.get("config")
        for key in ("activation", "recurrent_activation"):
            if isinstance(inner, dict) and isinstance(inner.get(key), str):
                yield inner[key], layer


def _check_function(name: Any, module: str | None, path: Path, layer: str, custom: Collection[str]) -> None:
    if not isinstance(name, str):
        raise _no_model(path, f"a function of layer {layer} has no name")
    if name.rpartition(">")[2] in custom:
        return
    if name not in ACTIVATIONS or module not in _FUNCTION_PLACES:
        raise _stranger(path, layer, name, module)


def _calls_custom(item: Mapping[str, Any], custom: Collection[str]) -> bool:
    """Return whether a Lambda layer calls nothing but one of the user's own functions."""
    inner = item.get("config")
    function = inner.get("function") if isinstance(inner, dict) else None
    if isinstance(function, str):  # as Keras 2 names it
        function = {"class_name": "function", "config": function}
    if not isinstance(inner, dict) or not isinstance(function, dict) or function.get("class_name") != "function":
        return False
    others = (inner.get("output_shape"), inner.get("mask"))
    plain = all(not isinstance(other, dict) and not _holds_text(other) for other in others)
    return plain and str(function.get("config")).rpartition(">")[2] in custom


def _holds_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(_holds_text(item) for item in value))


def _own_name(name: str, registered: str | None) -> str:
    return (registered or name).rpartition(">")[2]


def _no_model(path: Path, reason: str) -> ConversionError:
    return ConversionError(
        f"the model configuration in {path} cannot be read: {' '.join(reason.split())[:200]}",
        hint="save the model again, with model.save('NAME.keras')",
        code="damaged-model",
    )


def _lambda(path: Path, layer: str, item: Mapping[str, Any], version: str | None) -> UsageError:
    reason = "it stands outside of a layer"
    if item["class_name"] == "Lambda" and isinstance(item.get("config"), dict):
        try:
            translated(item, version)
        except UnknownCodeError as error:
            reason = str(error)
    return UsageError(
        f"the layer {layer!r} of {path} is a Lambda layer, which contains Python code of no known form: {reason}",
        hint="where the model was made, replace it by Rescaling, UnitNormalization, or a call of keras.ops on the "
        "tensor, and save it again; or, if you trust the file, add --unsafe-lambda",
        code="lambda-layer",
    )


def _cut_hint(
    error: UsageError | ConversionError, config: Mapping[str, Any], layer: str
) -> UsageError | ConversionError:
    """Return ``error`` with another hint first where ``layer`` lies downstream of a softmax, as a CTC loss does."""
    softmax = softmax_before(config, layer) if isinstance(error, UsageError) else None
    if softmax is None:
        return error
    hint = f"if {layer} is a part of the training only, add --output-layer {softmax}; {error.hint}"
    return UsageError(error.message, hint=hint, code=error.code)


def _stranger(path: Path, layer: str, name: str, module: str | None) -> UsageError | ConversionError:
    shown = f"{module}.{name}" if module else name
    root = (module or "").partition(".")[0]
    own = name.rpartition(">")[2]
    reason = reason_for(name)
    if ">" not in name and (root in ("keras", "tf_keras") or (reason is not None and module is None)):
        yours = "" if root else f"; if it is your own class of this name, add --custom-objects MODULE:{own}"
        return UsageError(
            f"{path} uses {shown[:120]} (layer {layer!r}), which {reason or 'xxdeploy does not know'}",
            hint="where the model was made, replace the layer, or save the part before it, "
            f"keras.Model(model.input, model.get_layer(NAME).output), and export that{yours}",
            code="unsupported-layer",
        )
    known = root in sys.stdlib_module_names - {"__main__"} and not (root == "builtins" and ">" in name)
    if known or not _IDENTIFIER.fullmatch(own):
        return unsafe(path, f"its layer {layer!r} makes Keras import {shown[:120]!r}, which is not a layer")
    place = (
        module if module and root not in ("__main__", "builtins", "keras") and _MODULE.fullmatch(module) else "MODULE"
    )
    return UsageError(
        f"{path} uses {shown[:120]} (layer {layer!r}), which is no layer, operation or activation that xxdeploy knows",
        hint=f"if it is your own code, add --custom-objects {place}:{own}",
        code="custom-object",
    )
