"""Translate operations and activations in files of Keras 2 (``TFOpLambda``: ``tf.math.truediv``, ...) to Keras 3.

They occur in models that call ``keras.applications.*.preprocess_input`` on their input, as the guide to transfer
learning does, or that contain an expression such as ``x * 2``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xxdeploy.errors import UsageError

Config = dict[str, Any]
_Rule = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""Module, class, tensor arguments after the first, options of the constructor: ``new`` or ``new=old``."""

_RULES: dict[str, _Rule] = {
    "math.add": ("numpy", "Add", ("y",), ()),
    "__operators__.add": ("numpy", "Add", ("y",), ()),
    "math.subtract": ("numpy", "Subtract", ("y",), ()),
    "math.multiply": ("numpy", "Multiply", ("y",), ()),
    "math.truediv": ("numpy", "TrueDivide", ("y",), ()),
    "math.divide": ("numpy", "Divide", ("y",), ()),
    "math.maximum": ("numpy", "Maximum", ("y",), ()),
    "math.minimum": ("numpy", "Minimum", ("y",), ()),
    "math.pow": ("numpy", "Power", ("y",), ()),
    "nn.bias_add": ("numpy", "Add", ("bias",), ()),
    "math.negative": ("numpy", "Negative", (), ()),
    "math.sqrt": ("numpy", "Sqrt", (), ()),
    "math.square": ("numpy", "Square", (), ()),
    "math.abs": ("numpy", "Absolute", (), ()),
    "math.exp": ("numpy", "Exp", (), ()),
    "math.tanh": ("numpy", "Tanh", (), ()),
    "math.sigmoid": ("nn", "Sigmoid", (), ()),
    "nn.sigmoid": ("nn", "Sigmoid", (), ()),
    "nn.relu": ("nn", "Relu", (), ()),
    "nn.relu6": ("nn", "Relu6", (), ()),
    "nn.elu": ("nn", "Elu", (), ()),
    "nn.silu": ("nn", "Silu", (), ()),
    "nn.swish": ("nn", "Silu", (), ()),
    "nn.softplus": ("nn", "Softplus", (), ()),
    "nn.softmax": ("nn", "Softmax", (), ("axis",)),
    "nn.softmax_v2": ("nn", "Softmax", (), ("axis",)),
    "math.reduce_mean": ("numpy", "Mean", (), ("axis", "keepdims")),
    "math.reduce_max": ("numpy", "Max", (), ("axis", "keepdims")),
    "math.reduce_sum": ("numpy", "Sum", (), ("axis", "keepdims")),
    "clip_by_value": ("numpy", "Clip", (), ("x_min=clip_value_min", "x_max=clip_value_max")),
    "reshape": ("numpy", "Reshape", (), ("newshape=shape",)),
    "expand_dims": ("numpy", "ExpandDims", (), ("axis",)),
    "squeeze": ("numpy", "Squeeze", (), ("axis",)),
    "compat.v1.squeeze": ("numpy", "Squeeze", (), ("axis",)),
    "compat.v1.transpose": ("numpy", "Transpose", (), ("axes=perm",)),
    "transpose": ("numpy", "Transpose", (), ("axes=perm",)),
    "concat": ("numpy", "Concatenate", (), ("axis",)),
    "stack": ("numpy", "Stack", (), ("axis",)),
    "cast": ("core", "Cast", (), ("dtype",)),
    "math.log": ("numpy", "Log", (), ()),
    "math.log1p": ("numpy", "Log1p", (), ()),
    "math.floor": ("numpy", "Floor", (), ()),
    "math.ceil": ("numpy", "Ceil", (), ()),
    "math.round": ("numpy", "Round", (), ()),
    "math.sign": ("numpy", "Sign", (), ()),
    "math.sin": ("numpy", "Sin", (), ()),
    "math.cos": ("numpy", "Cos", (), ()),
    "math.rsqrt": ("math", "Rsqrt", (), ()),
    "math.greater": ("numpy", "Greater", ("y",), ()),
    "math.greater_equal": ("numpy", "GreaterEqual", ("y",), ()),
    "math.less": ("numpy", "Less", ("y",), ()),
    "math.less_equal": ("numpy", "LessEqual", ("y",), ()),
    "math.reduce_min": ("numpy", "Min", (), ("axis", "keepdims")),
    "math.reduce_prod": ("numpy", "Prod", (), ("axis", "keepdims")),
    "math.reduce_std": ("numpy", "Std", (), ("axis", "keepdims")),
    "math.reduce_variance": ("numpy", "Var", (), ("axis", "keepdims")),
    "math.argmax": ("numpy", "Argmax", (), ("axis",)),
    "math.l2_normalize": ("nn", "Normalize", (), ("axis",)),
    "math.softplus": ("nn", "Softplus", (), ()),
    "math.softsign": ("nn", "Softsign", (), ()),
    "nn.softsign": ("nn", "Softsign", (), ()),
    "nn.selu": ("nn", "Selu", (), ()),
    "nn.gelu": ("nn", "Gelu", (), ("approximate",)),
    "nn.leaky_relu": ("nn", "LeakyRelu", (), ("negative_slope=alpha",)),
    "nn.depth_to_space": ("nn", "DepthToSpace", (), ("block_size",)),
    "nn.space_to_depth": ("nn", "SpaceToDepth", (), ("block_size",)),
    "nn.max_pool2d": ("nn", "MaxPool", (), ("pool_size=ksize", "strides", "padding")),
    "nn.avg_pool2d": ("nn", "AveragePool", (), ("pool_size=ksize", "strides", "padding")),
    "image.resize": ("image", "Resize", (), ("size", "interpolation=method", "antialias")),
    "image.rgb_to_grayscale": ("image", "RGBToGrayscale", (), ()),
    "image.flip_left_right": ("numpy", "Flip", (), ()),
    "image.flip_up_down": ("numpy", "Flip", (), ()),
    "reverse": ("numpy", "Flip", (), ("axis",)),
    "compat.v1.pad": ("numpy", "Pad", (), ("pad_width=paddings", "mode")),
    "pad": ("numpy", "Pad", (), ("pad_width=paddings", "mode")),
    "tile": ("numpy", "Tile", (), ("repeats=multiples",)),
    "repeat": ("numpy", "Repeat", (), ("repeats", "axis")),
    "split": ("numpy", "Split", (), ("indices_or_sections=num_or_size_splits", "axis")),
    "unstack": ("core", "Unstack", (), ("axis",)),
    "where": ("numpy", "Where", ("x", "y"), ()),
    "ones_like": ("numpy", "OnesLike", (), ()),
    "zeros_like": ("numpy", "ZerosLike", (), ()),
    "identity": ("core", "StopGradient", (), ()),
    "stop_gradient": ("core", "StopGradient", (), ()),
}
_DEFAULTS: dict[str, Config] = {
    "nn.softmax": {"axis": -1},
    "nn.softmax_v2": {"axis": -1},
    "nn.gelu": {"approximate": False},
    "nn.leaky_relu": {"negative_slope": 0.2},
    # tf: x * rsqrt(max(sum(x^2), 1e-12)); Keras: x * min(rsqrt(sum(x^2)), 1 / epsilon)
    "math.l2_normalize": {"order": 2, "epsilon": 1e-6},
    "image.flip_left_right": {"axis": 2},
    "image.flip_up_down": {"axis": 1},
    "split": {"axis": 0},
    "unstack": {"axis": 0},
    "math.argmax": {"axis": 0},
}
"""Options that differ from those of the class of Keras 3 where the file names none."""
_SPELLED_SMALL = ("padding", "mode")
"""Options whose value Keras 3 writes in small letters: ``SAME``, ``REFLECT``."""
_HARMLESS = {
    "name": None,
    "data_format": ("NHWC", "channels_last"),
    "constant_values": (0,),
    "num": None,
    "input": None,
}
"""Arguments that change nothing: with any value (None), or with one of these."""
OLD_ACTIVATIONS = {"hard_sigmoid": "hard_sigmoid_of_keras2"}
"""Activations that Keras 3 computes differently from Keras 2, and the function here that computes the old one."""


def upgrade_operation(item: Mapping[str, Any]) -> Config:
    """Return a ``TFOpLambda`` or ``SlicingOpLambda``, with its nodes, as an operation of Keras 3.

    Raises
    ------
    UsageError
        ``old-operation``: no rule translates it, or it is called with other arguments than the rule knows.
    """
    config = item["config"]
    function, name = str(config.get("function")), str(config.get("name"))
    nodes = item.get("inbound_nodes", [])
    if function in ("__operators__.getitem", "slice") and item["class_name"] == "SlicingOpLambda":
        calls = [{"args": [_argument(node), _slices(node[3])], "kwargs": {}} for node in nodes]
        return _written("numpy", "GetItem", {"name": name}, name, calls)
    if function not in _RULES:
        raise _unknown(function, name)
    module, kind, tensors, options = _RULES[function]
    calls, options_of_calls = [], list[Config]()
    for node in nodes:
        # A list of tensors (concat) is stored as several entries of one node.
        several = bool(node) and isinstance(node[0], list)
        given = dict((node[0][3] if several else node[3]) or {})
        first: Any = [_argument(entry) for entry in node] if several else _argument(node)
        others = [_value(given.pop(key)) for key in tensors if key in given]
        chosen = dict(_DEFAULTS.get(function, {}))
        for option in options:
            new, _, old = option.partition("=")
            if (value := given.pop(old or new, None)) is not None:
                chosen[new] = value.lower() if new in _SPELLED_SMALL else value
        if len(others) != len(tensors) or not all(_is_harmless(key, value) for key, value in given.items()):
            raise _unknown(function, name)
        calls.append({"args": [first, *others], "kwargs": {}})
        options_of_calls.append(chosen)
    if any(chosen != options_of_calls[0] for chosen in options_of_calls):
        raise _unknown(function, name)  # one operation of Keras 3 has one set of options
    return _written(module, kind, {"name": name, **(options_of_calls[0] if options_of_calls else {})}, name, calls)


def _is_harmless(key: str, value: Any) -> bool:
    if value is None or value is False:
        return True
    allowed = _HARMLESS.get(key, ())
    return allowed is None or value in allowed


def _written(module: str, kind: str, config: Config, name: str, calls: Sequence[Config]) -> Config:
    return {
        "module": f"keras.src.ops.{module}",
        "class_name": kind,
        "config": config,
        "registered_name": kind,
        "name": name,
        "inbound_nodes": list(calls),
    }


def _argument(entry: Sequence[Any]) -> Any:
    """Return the first argument of a node: a tensor, or a constant."""
    if entry[0] == "_CONSTANT_VALUE":
        return _value(entry[2])
    return tensor_config(entry)


def _value(value: Any) -> Any:
    """Return a number, an array, or a reference ``[layer, node, index]`` in the form of Keras 3."""
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str):
            return tensor_config(value)
        return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}
    return value


def tensor_config(entry: Sequence[Any]) -> Config:
    """Return the reference ``[layer, node, index, ...]`` in the form of Keras 3, which ignores its shape."""
    history = list(entry[:3])
    return {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": history}}


def _slices(given: Mapping[str, Any]) -> list[Any]:
    read: Callable[[Any], Any] = _slice
    specs = given["slice_spec"]
    return [read(spec) for spec in (specs if isinstance(specs, list) else [specs])]


def _slice(spec: Any) -> Any:
    if isinstance(spec, dict) and "class_name" in spec:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(spec, dict):
        return {"class_name": "__slice__", "config": {key: spec.get(key) for key in ("start", "stop", "step")}}
    return spec


def _unknown(function: str, name: str) -> UsageError:
    return UsageError(
        f"the model calls tf.{function} (layer {name}), which xxdeploy cannot translate from Keras 2",
        hint="replace the call by a layer where the model was trained, and save it again",
        code="old-operation",
    )


def hard_sigmoid_of_keras2(x: Any) -> Any:
    """Return ``clip(0.2 x + 0.5, 0, 1)``, element by element; in Keras 3 it is ``relu6(x + 3) / 6``."""
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def old_activation(name: str) -> dict[str, Any]:
    """Return the reference to the Keras 2 activation ``name`` in the form of a custom function of Keras 3."""
    function = OLD_ACTIVATIONS[name]
    return {"module": __name__, "class_name": "function", "config": function, "registered_name": function}
