"""Configurations of Keras 1, and of ``Sequential`` models without an input layer, in the form of Keras 2. Pure data.

Keras 1 (2015 to 2017) used other names for layers and options (``Convolution2D``, ``nb_filter``, ``border_mode``). The
new names are those of Keras 2's own migration code (``keras/legacy/interfaces.py``, Keras 2.0). Up to Keras 2.2.2 the
configuration of a ``Sequential`` model is a list of layers, and up to tf.keras 2.1 only the first layer states the
shape of the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xxdeploy.errors import UsageError

Config = dict[str, Any]

_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
}
_ONLY_IN_KERAS_1 = {
    "Deconvolution2D": "its kernel is laid out in another way",
    "Convolution1D": "its kernel is laid out in another way",
    "AtrousConvolution1D": "its kernel is laid out in another way",
    "Highway": "Keras has no such layer any more",
    "MaxoutDense": "Keras has no such layer any more",
    "LocallyConnected1D": "Keras has no such layer any more",
    "LocallyConnected2D": "Keras has no such layer any more",
}
_RENAMED = {
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "atrous_rate": "dilation_rate",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "bias": "use_bias",
    "output_dim": "units",
    "p": "rate",
    "sigma": "stddev",
}
_GONE = (
    "input_dim",
    "input_length",
    "input_dtype",
    "cropping_order",
    "dim_ordering",
    "nb_row",
    "nb_col",
    "mode",
    "concat_axis",
)
_MERGES = {"sum": "Add", "mul": "Multiply", "concat": "Concatenate", "ave": "Average", "max": "Maximum"}
_NO_TRAINING = (
    "W_regularizer",
    "U_regularizer",
    "b_regularizer",
    "activity_regularizer",
    "W_constraint",
    "b_constraint",
    "forget_bias_init",
    "consume_less",
    "gamma_regularizer",
    "beta_regularizer",
    "W_learning_rate_multiplier",
    "b_learning_rate_multiplier",
)


def is_keras_1(config: Any) -> bool:
    """Tell whether an option that only Keras 1 wrote stands in ``config``."""
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and {"dim_ordering", "border_mode", "W_regularizer", "nb_filter"} & inner.keys():
            return True
        return any(is_keras_1(value) for value in config.values())
    return isinstance(config, list) and any(is_keras_1(value) for value in config)


def with_input_layers(config: Any) -> Any:
    """Return ``config`` with every ``Sequential`` model as a dictionary that begins with an ``InputLayer``."""
    if isinstance(config, list):
        return [with_input_layers(value) for value in config]
    if not isinstance(config, dict):
        return config
    changed = {key: with_input_layers(value) for key, value in config.items()}
    if changed.get("class_name") != "Sequential":
        return changed
    inner = changed.get("config")
    if isinstance(inner, list):
        inner = {"name": str(changed.get("name") or "sequential"), "layers": inner}
    if not isinstance(inner, dict) or not isinstance(inner.get("layers"), list) or not inner["layers"]:
        return changed
    first = inner["layers"][0]
    shape = _input_shape(first) or inner.get("build_input_shape")
    if isinstance(first, dict) and first.get("class_name") != "InputLayer" and isinstance(shape, list):
        own = first.get("config")
        name = own.get("name", "model") if isinstance(own, dict) else "model"
        start = {
            "class_name": "InputLayer",
            "config": {"name": f"{name}_input", "batch_input_shape": shape, "dtype": "float32"},
        }
        inner = {**inner, "layers": [start, *inner["layers"]]}
    return {**changed, "config": inner}


def _input_shape(layer: Any) -> list[Any] | None:
    """Return the shape with the batch axis that a first layer, or the first layer of a model in its place, declares."""
    inner = layer.get("config") if isinstance(layer, dict) else None
    if isinstance(inner, list):
        return _input_shape(inner[0]) if inner else None
    if not isinstance(inner, dict):
        return None
    for key in ("batch_input_shape", "batch_shape"):
        if isinstance(inner.get(key), list):
            return list(inner[key])
    if isinstance(inner.get("input_dim"), int) and "output_dim" in inner:  # Dense(10, input_dim=100) of Keras 1
        return [None, inner["input_dim"]]
    layers = inner.get("layers")
    return _input_shape(layers[0]) if isinstance(layers, list) and layers else None


def keras2_from_keras1(config: Any) -> Any:
    """Return ``config`` with the layers and options of Keras 1 under the names of Keras 2.

    Raises
    ------
    UsageError
        ``keras-1-layer``: a layer or option whose meaning is not certain in Keras today, with its name.
    """
    if isinstance(config, list):
        return [keras2_from_keras1(value) for value in config]
    if not isinstance(config, dict):
        return config
    changed = {key: keras2_from_keras1(value) for key, value in config.items()}
    name, inner = changed.get("class_name"), changed.get("config")
    if not isinstance(name, str) or not isinstance(inner, dict) or "layers" in inner:
        return changed
    if name in _ONLY_IN_KERAS_1:
        raise _refusal(inner, name, _ONLY_IN_KERAS_1[name])
    if inner.get("dim_ordering", "tf") not in ("tf", "default"):
        raise _refusal(inner, name, "it was made for channels first (dim_ordering='th')")
    merged = _merge(name, inner)
    return {**changed, "class_name": _CLASSES.get(merged, merged), "config": _options(merged, inner)}


def _merge(name: str, inner: Mapping[str, Any]) -> str:
    if name != "Merge":
        return name
    mode = inner.get("mode")
    if not isinstance(mode, str) or mode not in _MERGES:
        raise _refusal(inner, name, f"its mode is {str(mode)[:40]!r}")
    return _MERGES[mode]


def _options(name: str, inner: Mapping[str, Any]) -> Config:
    if name == "BatchNormalization" and inner.get("mode", 0) != 0:
        raise _refusal(inner, name, f"its mode {inner['mode']} normalizes each batch by itself")
    options: Config = {
        _RENAMED.get(key, key): value for key, value in inner.items() if key not in (*_GONE, *_NO_TRAINING)
    }
    if {"nb_row", "nb_col"} <= inner.keys():
        options["kernel_size"] = [inner["nb_row"], inner["nb_col"]]
    if name == "Concatenate":
        options["axis"] = inner.get("concat_axis", -1)
    if name == "SeparableConvolution2D":
        options["depthwise_initializer"] = options.pop("kernel_initializer", "glorot_uniform")
        options.pop("kernel_regularizer", None)
        options.pop("kernel_constraint", None)
    if name == "ZeroPadding2D":
        options["padding"] = _pads(options["padding"])
    for key in ("kernel_initializer", "recurrent_initializer"):  # of training only, but Keras looks the name up
        if key in options:
            options[key] = "glorot_uniform"
    return options


def _pads(value: Any) -> Any:
    """Return (rows, columns), or (top, bottom, left, right) as Keras 2 writes it."""
    return [value[:2], value[2:]] if isinstance(value, list) and len(value) == 4 else value


def _refusal(inner: Mapping[str, Any], name: str, reason: str) -> UsageError:
    return UsageError(
        f"the layer {str(inner.get('name') or name)[:80]!r} is a {name} of Keras 1, and {reason}",
        hint="load the model with Keras 2.2, which still reads Keras 1, and save it there with model.save('NAME.h5')",
        code="keras-1-layer",
    )
