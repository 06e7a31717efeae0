"""The functions that a Lambda layer may call, and what they mean as operations of a tree.

Names stand under the modules that a file of Keras resolves them in: ``K`` (``keras.backend``), ``tf`` and ``ops``
(``keras.ops``). What depends on the version of TensorFlow, or mixes the images of a batch, is left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xxdeploy.convert.user_model.lambdas.marshal_code import UnknownCodeError
from xxdeploy.convert.user_model.lambdas.tree import Node, is_number, is_numbers, operation


@dataclass(frozen=True, slots=True)
class Name:
    """A global name with its attributes, such as ``tf.image.resize``."""

    dotted: str


_MODULES = (
    (re.compile(r"(tf\.|tensorflow\.)?(python\.)?keras\.(backend|activations)\."), "K."),
    (re.compile(r"(keras\.)?backend\.|K\."), "K."),
    (re.compile(r"(tf\.|tensorflow\.)?(keras\.)?ops\.(nn\.|numpy\.|image\.)?"), "ops."),
    (re.compile(r"(tf|tensorflow)\.(nn\.|math\.|linalg\.)?"), "tf."),
    (re.compile(r"(.*\.)?imagenet_utils\."), "imagenet_utils."),
    (re.compile(r"(np|numpy)\."), "np."),
)
_ARGUMENTS = {
    **dict.fromkeys(("input_tensor", "images", "image", "input", "inputs", "tensor", "logits", "features", "a"), "x"),
    **dict.fromkeys(("values", "tensors", "arrays", "xs"), "x"),
    **dict.fromkeys(("dim", "axes", "reduction_indices"), "axis"),
    **{"keep_dims": "keepdims", "perm": "pattern", "interpolation": "method", "paddings": "padding"},
    **{"clip_value_min": "low", "clip_value_max": "high", "min_value": "low", "x_min": "low", "x_max": "high"},
}
"""Arguments that several modules call by other names."""
_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16", "half"})
_CHANNELS_LAST = (None, "NHWC", "channels_last")
_MEANS, _DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # keras.applications.imagenet_utils
_CAFFE = (103.939, 116.779, 123.68)

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def call(name: Name, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
    """Return the result of calling ``name`` as a node, or as numbers for functions that make constants.

    Raises
    ------
    UnknownCodeError
        The function, or an argument of it, is unknown.
    """
    function = FUNCTIONS.get(canonical(name.dotted))
    if function is None:
        raise UnknownCodeError(f"it calls {name.dotted[:80]}")
    given = {key if key in inspect.signature(function).parameters else _ARGUMENTS.get(key, key): value
             for key, value in options.items()}  # fmt: skip
    given.pop("name", None)
    try:
        bound = inspect.signature(function).bind(*arguments, **given)
    except TypeError as error:
        raise UnknownCodeError(f"it calls {name.dotted[:80]} with other arguments than expected") from error
    return function(*bound.args, **bound.kwargs)


def by_plain_name(name: str, module: str | None, tensor: Node) -> Node:
    """Return ``function(tensor)`` for a function that a file gives by its name only, such as ``relu6``.

    Raises
    ------
    UnknownCodeError
        Unknown, or the modules disagree on its meaning.
    """
    places = ("K", "ops") if module is not None and "keras" in module else ("K", "tf", "ops")
    results = []
    for place in places:
        if f"{place}.{name}" in FUNCTIONS:
            result = call(Name(f"{place}.{name}"), [tensor], {})
            if result not in results:
                results.append(result)
    if len(results) != 1 or not isinstance(results[0], Node):
        raise UnknownCodeError(f"it calls {name[:80]}, which may mean several functions" if results else
                               f"it calls {name[:80]}")  # fmt: skip
    return results[0]


def canonical(dotted: str) -> str:
    """Return a name under ``K``, ``tf`` or ``ops``."""
    for pattern, module in _MODULES:
        match = pattern.match(dotted)
        if match:
            return module + dotted[match.end() :]
    return dotted


def _known(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS.update(dict.fromkeys(names, function))
        return function

    return register


def _in(modules: str, names: str) -> list[str]:
    return [f"{module}.{name}" for module in modules.split() for name in names.split()]


def _axes(axis: Any) -> Any:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if not axes or not all(isinstance(each, int) and not isinstance(each, bool) and each for each in axes):
        raise UnknownCodeError("it mixes the images of a batch")
    return list(axes) if isinstance(axis, (list, tuple)) else axis


def _whole_numbers(value: Any) -> list[int]:
    if not isinstance(value, (list, tuple)) or not is_numbers(value) or not all(isinstance(n, int) for n in value):
        raise UnknownCodeError("it computes a shape")
    return list(value)


def _channels_last(data_format: Any) -> None:
    if data_format not in _CHANNELS_LAST:
        raise UnknownCodeError("it works with channels first")


def _simple(op: str) -> Callable[..., Any]:
    return lambda x: operation(op, x)


for _names, _op in (
    ("abs absolute", "absolute"), ("negative", "negative"), ("square", "square"), ("exp", "exp"), ("log", "log"),
    ("log1p", "log1p"), ("sign", "sign"), ("round", "round"), ("floor", "floor"), ("ceil", "ceil"), ("sin", "sin"),
    ("cos", "cos"), ("tanh", "tanh"), ("sigmoid", "sigmoid"), ("relu6", "relu6"), ("softplus", "softplus"),
    ("softsign", "softsign"), ("selu", "selu"), ("silu swish", "silu"), ("rsqrt", "rsqrt"),
):  # fmt: skip
    _known(*_in("K tf ops", _names))(_simple(_op))
_known("abs")(_simple("absolute"))
_known(*_in("tf ops", "sqrt"))(_simple("sqrt"))
_known("tf.relu", "ops.relu")(_simple("relu"))
_known("tf.image.rgb_to_grayscale")(_simple("rgb_to_grayscale"))


def _pair(op: str) -> Callable[..., Any]:
    return lambda x, y: operation(op, x, y)


for _names, _op in (
    ("add", "add"), ("subtract", "subtract"), ("multiply", "multiply"), ("divide truediv true_divide", "divide"),
    ("maximum", "maximum"), ("minimum", "minimum"), ("pow power", "power"), ("floordiv floor_divide", "floor_divide"),
):  # fmt: skip
    _known(*_in("K tf ops", _names))(_pair(_op))


def _reduction(op: str) -> Callable[..., Any]:
    return lambda x, axis=None, keepdims=False: operation(op, x, axis=_axes(axis), keepdims=bool(keepdims))


for _name, _op in (
    ("sum", "sum"), ("mean", "mean"), ("max", "max"), ("min", "min"), ("prod", "prod"), ("std", "std"), ("var", "var"),
):  # fmt: skip
    _known(*_in("K ops", _name), f"tf.reduce_{'variance' if _name == 'var' else _name}")(_reduction(_op))


@_known("K.sqrt")
def _sqrt_of_keras(x: Any) -> Node:
    return operation("sqrt", operation("maximum", x, 0.0))


@_known("K.relu")
def _relu(x: Any, alpha: Any = 0.0, max_value: Any = None, threshold: Any = 0.0) -> Node:
    if threshold != 0 or not is_number(alpha):
        raise UnknownCodeError("it calls relu with a threshold")
    node = operation("leaky_relu", x, negative_slope=alpha) if alpha else operation("relu", x)
    return node if max_value is None else operation("minimum", node, max_value)


@_known("tf.leaky_relu")
def _leaky_relu(x: Any, alpha: Any = 0.2) -> Node:
    return operation("leaky_relu", x, negative_slope=_number(alpha))


@_known("ops.leaky_relu")
def _leaky_relu_of_keras(x: Any, negative_slope: Any = 0.2) -> Node:
    return operation("leaky_relu", x, negative_slope=_number(negative_slope))


@_known(*_in("K ops tf", "elu"))
def _elu(x: Any, alpha: Any = 1.0) -> Node:
    return operation("elu", x, alpha=_number(alpha))


@_known("tf.gelu")
def _gelu(x: Any, approximate: Any = False) -> Node:
    return operation("gelu", x, approximate=bool(approximate))


@_known("K.hard_sigmoid")
def _hard_sigmoid(x: Any) -> Node:
    return operation("clip", operation("add", operation("multiply", x, 0.2), 0.5), x_min=0.0, x_max=1.0)


def _number(value: Any) -> Any:
    if not is_number(value):
        raise UnknownCodeError("it computes an option")
    return value


@_known(*_in("K ops", "clip"), "tf.clip_by_value")
def _clip(x: Any, low: Any, high: Any) -> Node:
    return operation("clip", x, x_min=_number(low), x_max=_number(high))


@_known(*_in("K tf ops", "softmax"))
def _softmax(x: Any, axis: Any = -1) -> Node:
    return operation("softmax", x, axis=_axes(-1 if axis is None else axis))


@_known(*_in("tf ops", "log_softmax"))
def _log_softmax(x: Any, axis: Any = -1) -> Node:
    return operation("log_softmax", x, axis=_axes(-1 if axis is None else axis))


@_known(*_in("K tf", "l2_normalize"))
def _l2_normalize(x: Any, axis: Any = None, epsilon: Any = 1e-12) -> Node:
    # tf: x * rsqrt(max(sum(x^2), epsilon)); Keras: x * min(rsqrt(sum(x^2)), 1 / epsilon)
    return operation("normalize", x, axis=_axes(axis), order=2, epsilon=float(_number(epsilon)) ** 0.5)


@_known(*_in("K tf ops", "expand_dims"))
def _expand_dims(x: Any, axis: Any = -1) -> Node:
    return operation("expand_dims", x, axis=_axes(axis))


@_known(*_in("K tf ops", "squeeze"))
def _squeeze(x: Any, axis: Any = None) -> Node:
    return operation("squeeze", x, axis=_axes(axis))


@_known(*_in("K tf ops", "reshape"))
def _reshape(x: Any, shape: Any) -> Node:
    sizes = _whole_numbers(shape)
    if sizes[0] != -1 or any(size < 1 for size in sizes[1:]):
        raise UnknownCodeError("it mixes the images of a batch")
    return operation("reshape", x, newshape=sizes)


@_known("K.permute_dimensions", *_in("tf ops", "transpose"))
def _transpose(x: Any, pattern: Any) -> Node:
    axes = _whole_numbers(pattern)
    if axes[0] != 0:
        raise UnknownCodeError("it mixes the images of a batch")
    return operation("transpose", x, axes=axes)


@_known(*_in("K ops", "concatenate"), "tf.concat")
def _concatenate(x: Any, axis: Any = -1) -> Node:
    return operation("concatenate", *_several(x), axis=_axes(axis))


@_known(*_in("K tf ops", "stack"))
def _stack(x: Any, axis: Any = 0) -> Node:
    return operation("stack", *_several(x), axis=_axes(axis))


def _several(values: Any) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, Node) for value in values):
        raise UnknownCodeError("it joins other things than tensors")
    return values


@_known(*_in("K tf ops", "reverse flip"))
def _flip(x: Any, axis: Any) -> Node:
    return operation("flip", x, axis=_axes(axis))


@_known("tf.image.flip_left_right")
def _flip_left_right(x: Any) -> Node:
    return operation("flip", x, axis=2)


@_known("tf.image.flip_up_down")
def _flip_up_down(x: Any) -> Node:
    return operation("flip", x, axis=1)


@_known(*_in("tf ops", "depth_to_space"))
def _depth_to_space(x: Any, block_size: Any, data_format: Any = None) -> Node:
    _channels_last(data_format)
    return operation("depth_to_space", x, block_size=_number(block_size))


@_known(*_in("tf ops", "space_to_depth"))
def _space_to_depth(x: Any, block_size: Any, data_format: Any = None) -> Node:
    _channels_last(data_format)
    return operation("space_to_depth", x, block_size=_number(block_size))


@_known("tf.image.resize")
def _resize(
    x: Any, size: Any, method: Any = "bilinear", preserve_aspect_ratio: Any = False, antialias: Any = False
) -> Node:
    way = method.dotted.rpartition(".")[2].lower() if isinstance(method, Name) else method
    way = "nearest" if way == "nearest_neighbor" else way
    if way not in ("bilinear", "nearest", "bicubic") or preserve_aspect_ratio or len(_whole_numbers(size)) != 2:
        raise UnknownCodeError("it calls tf.image.resize with other arguments than expected")
    return operation("resize", x, size=list(size), interpolation=way, antialias=bool(antialias))


@_known("K.resize_images")
def _resize_images(x: Any, height_factor: Any, width_factor: Any, data_format: Any, method: Any = "nearest") -> Node:
    _channels_last(data_format)
    if method not in ("nearest", "bilinear"):
        raise UnknownCodeError("it calls K.resize_images with other arguments than expected")
    return operation("upsample", x, factors=_whole_numbers([height_factor, width_factor]), interpolation=method)


@_known("tf.pad")
def _pad(x: Any, padding: Any, mode: Any = "CONSTANT", constant_values: Any = 0) -> Node:
    pairs = [_whole_numbers(pair) for pair in padding] if isinstance(padding, (list, tuple)) else []
    if not pairs or pairs[0] != [0, 0] or any(len(pair) != 2 or min(pair) < 0 for pair in pairs) or constant_values:
        raise UnknownCodeError("it calls tf.pad with other arguments than expected")
    way = str(mode).lower()
    if way not in ("constant", "reflect", "symmetric"):
        raise UnknownCodeError("it calls tf.pad with other arguments than expected")
    return operation("pad", x, pad_width=pairs, mode=way)


@_known(*_in("K tf ops", "cast"))
def _cast(x: Any, dtype: Any) -> Any:
    kind = dtype.dotted.rpartition(".")[2] if isinstance(dtype, Name) else dtype
    if kind not in _FLOATS:
        raise UnknownCodeError("it computes in integers")
    return x


@_known(*_in("K tf", "identity stop_gradient to_float"), "ops.stop_gradient")
def _identity(x: Any) -> Any:
    return x


@_known("K.floatx")
def _floatx() -> str:
    return "float32"


@_known("K.constant", "tf.constant", "np.array", "np.asarray", "tf.convert_to_tensor", "ops.convert_to_tensor")
def _constant(x: Any, dtype: Any = None) -> Any:
    if dtype is not None:
        _cast(0, dtype)
    return x


@_known("imagenet_utils.preprocess_input")
def _preprocess_input(x: Any, data_format: Any = None, mode: Any = "caffe") -> Node:
    _channels_last(data_format)
    if mode == "tf":
        return operation("subtract", operation("divide", x, 127.5), 1.0)
    if mode == "torch":
        return operation("divide", operation("subtract", operation("divide", x, 255.0), _MEANS), _DEVIATIONS)
    if mode != "caffe":
        raise UnknownCodeError("it calls preprocess_input with another mode than expected")
    return operation("subtract", operation("flip", x, axis=-1), _CAFFE)
