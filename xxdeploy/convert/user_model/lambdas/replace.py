"""Put translated layers in the place of the Lambda layers of a configuration. Pure data: no framework."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Any

from xxdeploy.convert.user_model.lambdas.expression import Function, expression
from xxdeploy.convert.user_model.lambdas.functions import by_plain_name
from xxdeploy.convert.user_model.lambdas.marshal_code import MAX_BYTES, UNREADABLE, UnknownCodeError
from xxdeploy.convert.user_model.lambdas.tree import INPUT, Node, is_number, json_from_tree

Config = dict[str, Any]

LAYER = "TranslatedLambda"
MODULE = "xxdeploy.convert.user_model.lambdas.layer"
_ACTIVATIONS = frozenset({"relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh"})
_SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**", "floor_divide": "//"}
_MAX_ARGUMENTS = 16
_IGNORED = ("training", "mask")
"""Keyword arguments of each call, which Keras 3 writes: without effect if they are False or None."""


def without_lambdas(config: Any, version: str | None, custom: Collection[str] = ()) -> tuple[Any, tuple[str, ...]]:
    """Return ``config`` with known Lambda layers translated, and a note on each. Unknown ones stay as they are.

    ``version`` of Keras wrote the file; functions in ``custom`` are the user's own, and stay.
    """
    notes: list[str] = []
    return _without(config, version, custom, notes), tuple(dict.fromkeys(notes))


def _without(value: Any, version: str | None, custom: Collection[str], notes: list[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, version, custom, notes) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "Lambda" and isinstance(value.get("config"), dict):
        if _plain_name(value["config"].get("function"), None)[0].rpartition(">")[2] in custom:
            return value
        try:
            node = translated(value, version)
        except UnknownCodeError:
            return value
        notes.append(f"the Lambda layer {str(value['config'].get('name'))[:80]!r} was translated: {in_words(node)}")
        return _replacement(value, node)
    return {key: _without(item, version, custom, notes) for key, item in value.items()}


def translated(layer: Mapping[str, Any], version: str | None) -> Node:
    """Return the expression that a Lambda layer computes.

    Raises
    ------
    UnknownCodeError
        It is not of a known form; the text says why, as the end of "the layer is a Lambda layer: ...".
    """
    config = layer["config"]
    if config.get("mask") is not None:
        raise UnknownCodeError("it computes a mask")
    arguments = config.get("arguments") or {}
    if not isinstance(arguments, dict) or len(arguments) > _MAX_ARGUMENTS:
        raise UnknownCodeError("it has arguments of a rare kind")
    arguments = {str(key): _constant(value) for key, value in arguments.items()}
    tensors, function = _tensors(layer), config.get("function")
    stored = _stored(function)
    if stored is None:
        name, module = _plain_name(function, config.get("module"))
        if tensors or arguments:
            raise UnknownCodeError(f"it calls {name[:80]} with several arguments")
        node = by_plain_name(name, module, Node(INPUT, (), {"index": 0}))
    else:
        code, defaults, closure = stored
        node = expression(Function(_bytes(code), _constants(defaults), _constants(closure), arguments, tensors))
    if any(each.op in ("resize", "upsample") for each in node.walk()) and not _is_tensorflow_2(version):
        raise UnknownCodeError(f"it resizes, which TensorFlow 1 and 2 do differently, and Keras {version} ran on both")
    return node


def _stored(function: Any) -> tuple[Any, Any, Any] | None:
    """Return code, defaults and closure as Keras 2 (a list) or Keras 3 (an object) stores them; None for a name."""
    if isinstance(function, list) and len(function) == 3:
        return function[0], function[1], function[2]
    if isinstance(function, dict) and function.get("class_name") == "__lambda__":
        inner = function.get("config")
        if isinstance(inner, dict):
            return inner.get("code"), inner.get("defaults"), inner.get("closure")
    return None


def _plain_name(function: Any, module: Any) -> tuple[str, str | None]:
    if isinstance(function, dict) and function.get("class_name") == "function":
        function, module = function.get("config"), function.get("module")
        module = None if module == "builtins" else module
    return str(function) if isinstance(function, str) else "", module if isinstance(module, str) else None


def _bytes(code: Any) -> bytes:
    """Decode the text of a code object: base64, or in files of Keras 1 and 2.0 escaped bytes."""
    if not isinstance(code, str) or len(code) > 2 * MAX_BYTES:
        raise UnknownCodeError(UNREADABLE)
    try:
        return base64.b64decode("".join(code.split()).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return code.encode("raw_unicode_escape")


def _constants(values: Any) -> tuple[Any, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or len(values) > _MAX_ARGUMENTS:
        raise UnknownCodeError("it has captured something else than numbers")
    return tuple(_constant(value) for value in values)


def _constant(value: Any) -> Any:
    """Return a number, a word, or a list of them as a tuple."""
    if isinstance(value, list) and len(value) <= _MAX_ARGUMENTS:
        return tuple(_constant(item) for item in value)
    if value is None or isinstance(value, (bool, str)) or is_number(value):
        return value
    raise UnknownCodeError("it has captured something else than numbers")


def _tensors(layer: Mapping[str, Any]) -> int:
    """Return the number of tensors in the list that a layer is called on; 0 if it is called on a tensor."""
    counts = set()
    for node in layer.get("inbound_nodes") or []:
        first, others, options = _call(node)
        counts.add(len(first) if isinstance(first, list) else 0)
        plain = isinstance(options, dict) and all(key in _IGNORED and not options[key] for key in options)
        if others or not plain:
            raise UnknownCodeError("it is called with more than its input")
    if len(counts) > 1:
        raise UnknownCodeError("it is called on different inputs")
    return counts.pop() if counts else 0


def _call(node: Any) -> tuple[Any, Any, Any]:
    """Return the first argument of a call (a list if it is one), the other arguments, and the keyword arguments."""
    if isinstance(node, dict):
        arguments = node.get("args")
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        return first, arguments[1:] if isinstance(arguments, list) else None, node.get("kwargs") or {}
    if not isinstance(node, list) or not node:
        return None, None, {}
    tensors = node if isinstance(node[0], list) else [node]
    options: Any = next((item[3] for item in tensors if isinstance(item, list) and len(item) > 3 and item[3]), {})
    return tensors if len(tensors) > 1 else tensors[0][0], None, options


def _without_options(node: Any) -> Any:
    """Return a call without the keyword arguments that Keras gives to a Lambda layer itself."""
    if isinstance(node, dict) and isinstance(node.get("kwargs"), dict):
        return {**node, "kwargs": {key: value for key, value in node["kwargs"].items() if key not in _IGNORED}}
    return node


def _is_tensorflow_2(version: str | None) -> bool:
    """Tell whether a version of Keras ran on TensorFlow 2 only: tf.keras from TensorFlow 2.2 on, and Keras from 2.4."""
    parts = (version or "").split("-")[0].split(".")
    if not all(part.isdigit() for part in parts[:2]) or len(parts) < 2:
        return False
    return (int(parts[0]), int(parts[1])) >= ((2, 3) if "-tf" in (version or "") else (2, 4))


def _replacement(layer: Config, node: Node) -> Config:
    """Return a layer of Keras if one computes the expression, else a ``TranslatedLambda``, with the layer's calls."""
    old = layer["config"]
    config: Config = {key: old[key] for key in ("name", "dtype", "batch_input_shape", "batch_shape") if key in old}
    config["trainable"] = False
    affine = _affine(node)
    module: str | None = "keras.layers"
    if affine is not None:
        name = "Rescaling"
        config |= {"scale": affine[0], "offset": affine[1]}
    elif _is_activation(node):
        name = "Activation"
        config["activation"] = node.op
    else:
        name, module = LAYER, MODULE
        config["expression"] = json_from_tree(node)
    item = {**layer, "class_name": name, "config": config, "module": module}
    item["registered_name"] = LAYER if name == LAYER else None
    if isinstance(layer.get("inbound_nodes"), list):
        item["inbound_nodes"] = [_without_options(node) for node in layer["inbound_nodes"]]
    item.pop("build_config", None)
    return item


def _is_activation(node: Node) -> bool:
    inputs = [item for item in node.inputs if isinstance(item, Node)]
    if len(inputs) != 1 or inputs[0].op != INPUT or inputs[0].options.get("index") != 0:
        return False
    if node.op == "softmax":
        return node.options == {"axis": -1}
    return node.op in _ACTIVATIONS


def _affine(node: Any) -> tuple[float, float] | None:
    """Return ``(a, b)`` if the expression is ``a * x + b`` of a single tensor; else None."""
    if is_number(node):
        return 0.0, float(node)
    if not isinstance(node, Node):
        return None
    if node.op == INPUT:
        return 1.0, 0.0
    if node.op not in ("add", "subtract", "multiply", "divide", "negative"):
        return None
    sides = [_affine(item) for item in node.inputs]
    tensors = {each.options["index"] for each in node.walk() if each.op == INPUT}
    if any(side is None for side in sides) or len(tensors) != 1:
        return None
    (a, b), (c, d) = sides[0] or (0.0, 0.0), (sides[-1] or (0.0, 0.0))
    if node.op == "negative":
        return -a, -b
    if node.op in ("add", "subtract"):
        sign = 1.0 if node.op == "add" else -1.0
        return a + sign * c, b + sign * d
    if node.op == "multiply" and (a == 0 or c == 0):
        return a * d + c * b, b * d
    return (a / d, b / d) if node.op == "divide" and c == 0 and d else None


def in_words(node: Any) -> str:
    """Return an expression as text, such as ``x / 127.5 - 1``, of at most 200 characters."""
    text = _text(node)
    return text if len(text) <= 200 else text[:197] + "..."


def _text(node: Any) -> str:
    if not isinstance(node, Node):
        return str(list(node)) if isinstance(node, tuple) else f"{node:g}"
    if node.op == INPUT:
        return "x" if not node.options["index"] else f"x{node.options['index']}"
    inner = [_text(item) for item in node.inputs]
    if node.op == "getitem":
        inside = f"({inner[0]})" if _is_sum(node.inputs[0]) else inner[0]
        return f"{inside}[{', '.join(map(_part, node.options['index']))}]"
    if node.op in _SYMBOLS and len(inner) == 2:
        sides = [f"({text})" if _is_sum(item) else text for item, text in zip(node.inputs, inner, strict=True)]
        return f" {_SYMBOLS[node.op]} ".join(sides)
    options = [f"{key}={value}" for key, value in node.options.items()]
    return f"{node.op}({', '.join((*inner, *options))})"


def _part(part: Any) -> str:
    if not isinstance(part, list):
        return str(part)
    text = ":".join("" if end is None else str(end) for end in part)
    return text.removesuffix(":") if part[2] is None else text


def _is_sum(node: Any) -> bool:
    return isinstance(node, Node) and node.op in _SYMBOLS
