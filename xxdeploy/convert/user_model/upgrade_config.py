"""Upgrade a model's configuration to the form that Keras 3 writes to a ``.keras`` file. Pure data: no framework.

Files of Keras 2, and each ``.h5``, omit the module of a class, call the shape of an input ``batch_input_shape``,
store nodes as lists, and contain options that Keras 3 refuses. Operations like ``x / 127.5`` are ``TFOpLambda``
(``keras2_operations``). The ``.h5`` writer of Keras 3 omits the module, too, so its own reader takes the operation
``Add`` for the layer ``Add``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from xxdeploy.convert.user_model.keras2_operations import (
    OLD_ACTIVATIONS,
    old_activation,
    tensor_config,
    upgrade_operation,
)
from xxdeploy.convert.user_model.quarantine.known import (
    INITIALIZERS,
    LAYERS,
    MODELS,
    OLD_OPERATIONS,
    OPERATIONS,
    OTHERS,
)

Config = dict[str, Any]

_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.>-]*")
_NOT_IN_A_SCOPE = re.compile(r"[^A-Za-z0-9_.>-]")
"""Keras takes any name without a slash, TensorFlow's graphs only these (``tf.Graph.name_scope``)."""

_RECURRENT = ("LSTM", "LSTMCell", "GRU", "GRUCell", "SimpleRNN", "SimpleRNNCell")
_DROPPED = {
    **dict.fromkeys(_RECURRENT, ("implementation",)),
    "BatchNormalization": ("fused", "virtual_batch_size", "adjustment"),
    "Conv2DTranspose": ("groups",),
    "DepthwiseConv2D": ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint", "filters"),
    "SeparableConv2D": ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "Softmax": ("mask",),
    "SpatialDropout1D": ("trainable", "noise_shape"),
    "SpatialDropout2D": ("trainable", "noise_shape"),
    "SpatialDropout3D": ("trainable", "noise_shape"),
}
"""Options that Keras 2 wrote and Keras 3 refuses; each restates a default, or matters in training only."""
_DROPPED_EVERYWHERE = ("batch_input_shape", "rng_type", "force_generator", "ragged", "sparse")


def upgrade_config(config: Mapping[str, Any], *, old: bool = False) -> Config:
    """Return ``config`` (from ``quarantine``) in the form of a ``.keras`` file of Keras 3.

    ``old``: Keras 2 wrote it, so a few names have their old meaning.

    Raises
    ------
    UsageError
        ``old-operation``: an operation of Keras 2 without a translation.
    """
    upgraded = _upgrade(_with_old_meanings(config) if old else config)
    assert isinstance(upgraded, dict)
    renamed = _renamed(_layer_names(upgraded))
    return _replaced(upgraded, renamed) if renamed else upgraded


def _upgrade(value: Any) -> Any:
    if isinstance(value, list):
        return [_upgrade(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "class_name" not in value or not isinstance(value.get("config"), dict):
        return {key: _upgrade(item) for key, item in value.items()}
    if value["class_name"] in OLD_OPERATIONS:
        return upgrade_operation(value)
    value = {**value, "config": _count_from_zero(value["config"])}
    item: Config = {key: _upgrade(inner) for key, inner in value.items()}
    name, inner = item["class_name"], item["config"]
    if name.startswith("__"):
        return item
    operation = _operation_module(name, item)
    item["module"] = operation or _module(name, item.get("module"))
    if operation or item["module"] == "keras.src.models.functional":
        item["registered_name"] = name
    if operation is None and name in LAYERS:
        _upgrade_layer(name, inner)
    if name == "Lambda":  # without --unsafe-lambda it was refused before
        item["module"] = "keras.layers"
        _upgrade_lambda(inner)
    if "inbound_nodes" in item:
        item["inbound_nodes"] = [_node(node) for node in item["inbound_nodes"]]
    return item


def _count_from_zero(inner: Config) -> Config:
    """Return a model's configuration with the calls of its nested models counted from 0, as in Keras 3.

    Keras 2 counted the construction of a model as its first call, so its use in another model is call 1.
    """
    layers = inner.get("layers")
    if not isinstance(layers, list) or not any(_is_old_node(node) for layer in layers for node in _nodes(layer)):
        return inner
    nested = {layer["name"] for layer in layers if layer.get("class_name") in MODELS and "name" in layer}

    def counted(value: Any) -> Any:
        if not isinstance(value, list):
            return {key: counted(item) for key, item in value.items()} if isinstance(value, dict) else value
        if len(value) >= 3 and isinstance(value[0], str) and value[0] in nested and isinstance(value[1], int):
            return [value[0], max(0, value[1] - 1), *(counted(item) for item in value[2:])]
        return [counted(item) for item in value]

    changed = [
        {**layer, "inbound_nodes": counted(layer["inbound_nodes"])} if "inbound_nodes" in layer else layer
        for layer in layers
    ]
    ends: Config = {key: _one(counted(inner[key])) for key in ("input_layers", "output_layers") if key in inner}
    return {**inner, "layers": changed, **ends}


def _one(ends: Any) -> Any:
    """Return the inputs or outputs of a model; a single one without its list."""
    single = isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list)
    return ends[0] if single else ends


def _nodes(layer: Mapping[str, Any]) -> list[Any]:
    return layer.get("inbound_nodes") or []


def _is_old_node(node: Any) -> bool:
    return isinstance(node, list) and bool(node)


def _with_old_meanings(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_old_meanings(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _with_old_meanings(item) for key, item in value.items()}
    for key in ("activation", "recurrent_activation"):
        if isinstance(changed.get(key), str) and changed[key] in OLD_ACTIVATIONS:
            changed[key] = old_activation(changed[key])
    if changed.get("class_name") in ("GRU", "GRUCell") and isinstance(changed.get("config"), dict):
        return {**changed, "config": {"reset_after": False, **changed["config"]}}  # up to Keras 2.1 there was no other
    if changed.get("class_name") == "RandomCrop" and isinstance(changed.get("config"), dict):
        # In inference Keras 2 cut to the aspect ratio and resized; Keras 3 only cuts.
        kept = {key: item for key, item in changed["config"].items() if key in ("name", "height", "width")}
        return {**changed, "class_name": "Resizing", "config": {**kept, "crop_to_aspect_ratio": True}}
    return changed


def _operation_module(name: str, item: Mapping[str, Any]) -> str | None:
    """Return the module of an operation; None for a layer."""
    module = item.get("module")
    if isinstance(module, str):
        return module if module.startswith("keras.src.ops.") else None
    inner = item["config"]
    if "inbound_nodes" not in item or "trainable" in inner or "layers" in inner:
        return None  # layers have the key "trainable", operations have not
    return next((f"keras.src.ops.{place}" for place, names in OPERATIONS.items() if name in names), None)


def _module(name: str, module: str | None) -> str | None:
    if name in ("Functional", "Model") and (module is None or module.startswith(("keras", "tf_keras"))):
        return "keras.src.models.functional" if name == "Functional" else "keras"
    if module is not None and not module.startswith(("keras.src.", "tf_keras", "keras.engine", "keras.layers.")):
        return module
    for place, names in (
        ("keras", MODELS),
        ("keras.layers", LAYERS),
        ("keras.initializers", INITIALIZERS),
        ("keras", OTHERS & {"DTypePolicy", "FloatDTypePolicy", "Policy", "DTypePolicyMap"}),
        ("keras.regularizers", OTHERS & {"L1", "L1L2", "L2", "OrthogonalRegularizer"}),
        ("keras.constraints", OTHERS),
    ):
        if name in names:
            return place
    return module


def _upgrade_layer(name: str, inner: Config) -> None:
    shape = inner.get("batch_input_shape")
    if name == "InputLayer" and shape is not None:
        inner["batch_shape"] = shape
    for key in (*_DROPPED_EVERYWHERE, *_DROPPED.get(name, ())):
        inner.pop(key, None)
    if inner.get("time_major") is False:
        del inner["time_major"]
    axis = inner.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        inner["axis"] = axis[0]


def _upgrade_lambda(inner: Config) -> None:
    """Rewrite the function of a Lambda layer of Keras 2 (a list of code, or a name) in the form of Keras 3."""
    for key in ("module", "function_type", "output_shape_type", "output_shape_module"):
        inner.pop(key, None)
    for key in ("function", "output_shape", "mask"):
        given = inner.get(key)
        if isinstance(given, str):
            inner[key] = {"module": "builtins", "class_name": "function", "config": given, "registered_name": given}
        elif isinstance(given, list) and len(given) == 3 and isinstance(given[0], str):
            code = dict(zip(("code", "defaults", "closure"), given, strict=True))
            inner[key] = {"class_name": "__lambda__", "config": code}


def _node(node: Any) -> Any:
    """Return a call of a layer, in Keras 2 a list of tensors, as ``{"args": ..., "kwargs": ...}``."""
    if isinstance(node, dict) or not node:
        return node
    tensors = [node] if isinstance(node[0], str) else node
    options: Config = next((tensor[3] for tensor in tensors if len(tensor) > 3 and tensor[3]), {})
    arguments = [tensor_config(tensor) for tensor in tensors]
    return {"args": [arguments[0] if len(arguments) == 1 else arguments], "kwargs": dict(options)}


def _layer_names(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_layer_names, value))
    if not isinstance(value, dict):
        return set()
    inner = value.get("config")
    own = inner.get("name") if isinstance(inner, dict) and "class_name" in value else None
    return set().union({own} if isinstance(own, str) else (), *map(_layer_names, value.values()))


def _renamed(names: set[str]) -> dict[str, str]:
    """Return new names for layers whose names TensorFlow refuses as a scope, such as ``conv1/conv`` or ``слой 1``."""
    renamed: dict[str, str] = {}
    taken = {name for name in names if _SCOPE.fullmatch(name)}
    for name in sorted(names - taken):
        new = _NOT_IN_A_SCOPE.sub("_", name)
        new = new if _SCOPE.fullmatch(new) else f"layer{new}"
        while new in taken:
            new += "_"
        renamed[name] = new
        taken.add(new)
    return renamed


def _replaced(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, renamed) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, renamed) for item in value]
    return renamed.get(value, value) if isinstance(value, str) else value
