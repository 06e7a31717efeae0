"""Operations of Keras' TensorFlow backend in elementary operators, where TensorFlow's have no ONNX operator.

Each function has the signature of the one that it stands for. ``keras_patches`` puts them in place for a trace.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log as math_log
from typing import Any

MOST_FACTORS = 256
"""Factors of a running product, which is written as one multiplication each."""


def forms(tf: Any) -> dict[tuple[Any, str], Callable[..., Any]]:
    """Map a module of the backend and the name of a function to the function in elementary operators."""
    from keras.src.backend.tensorflow import image, math, nn, numpy

    original = numpy.argmax, numpy.argmin, numpy.cumprod
    return {
        (nn, "celu"): lambda x, alpha=1.0: tf.maximum(x, 0.0) + alpha * (tf.exp(tf.minimum(x, 0.0) / alpha) - 1.0),
        (numpy, "log1p"): lambda x: tf.math.log(tf.cast(x, tf.float32) + 1.0),
        (numpy, "expm1"): lambda x: tf.exp(tf.cast(x, tf.float32)) - 1.0,
        (numpy, "argmax"): _extreme(tf, tf.argmax, original[0]),
        (numpy, "argmin"): _extreme(tf, tf.argmin, original[1]),
        (numpy, "cumprod"): _running_product(tf, original[2]),
        (numpy, "diagonal"): _diagonal(tf, numpy.diagonal),
        (numpy, "logaddexp"): lambda x1, x2: _log_add_exp(tf, x1, x2, 1.0),
        (numpy, "logaddexp2"): lambda x1, x2: _log_add_exp(tf, x1, x2, math_log(2.0)),
        (math, "erfc"): lambda x: 1.0 - tf.math.erf(x),
        (image, "rgb_to_hsv"): lambda images, data_format=None: _hsv(tf, images, _axis(data_format)),
        (image, "hsv_to_rgb"): lambda images, data_format=None: _rgb(tf, images, _axis(data_format)),
    }


def _axis(data_format: str | None) -> int:
    from keras.src.backend import standardize_data_format

    return -1 if standardize_data_format(data_format) == "channels_last" else -3


def _extreme(tf: Any, find: Any, original: Any) -> Any:
    """Return argmax or argmin without Keras' detour for -0.0, which reads the bits of a number."""

    def call(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = tf.convert_to_tensor(x)
        if axis is None or x.dtype != tf.float32:
            return original(x, axis=axis, keepdims=keepdims)
        place = find(x, axis=axis, output_type=tf.int32)
        return tf.expand_dims(place, axis) if keepdims else place

    return call


def _running_product(tf: Any, original: Any) -> Any:
    def cumprod(x: Any, axis: Any = None, dtype: Any = None) -> Any:
        x = tf.convert_to_tensor(x)
        if axis is None or dtype is not None or not 0 < (x.shape[axis] or 0) <= MOST_FACTORS:
            return original(x, axis=axis, dtype=dtype)
        products: list[Any] = []
        for factor in tf.unstack(x, axis=axis):
            products.append(factor if not products else products[-1] * factor)
        return tf.stack(products, axis=axis)

    return cumprod


def _log_add_exp(tf: Any, x1: Any, x2: Any, log_base: float) -> Any:
    x1, x2 = (tf.cast(tf.convert_to_tensor(x), tf.float32) for x in (x1, x2))
    return tf.maximum(x1, x2) + tf.math.log(1.0 + tf.exp(-tf.abs(x1 - x2) * log_base)) / log_base


def _diagonal(tf: Any, original: Any) -> Any:
    def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        x = tf.convert_to_tensor(x)
        rank = len(x.shape)
        first, second = axis1 % rank, axis2 % rank
        rows, columns = x.shape[first], x.shape[second]
        if rows is None or columns is None or not 0 <= offset < columns:
            return original(x, offset=offset, axis1=axis1, axis2=axis2)
        others = [axis for axis in range(rank) if axis not in (first, second)]
        shape = tf.concat([tf.shape(x)[:1] if axis == 0 else [x.shape[axis]] for axis in others] + [[-1]], 0)
        flat = tf.reshape(tf.transpose(x, [*others, first, second]), shape)
        places = [row * columns + row + offset for row in range(min(rows, columns - offset))]
        return tf.gather(flat, places, axis=-1)

    return diagonal


def _hsv(tf: Any, images: Any, axis: int) -> Any:
    """Return hue, saturation and value, 0..1, of red, green and blue (Smith 1978, Color gamut transform pairs)."""
    red, green, blue = tf.split(images, 3, axis=axis)
    value = tf.maximum(tf.maximum(red, green), blue)
    spread = value - tf.minimum(tf.minimum(red, green), blue)
    some = tf.where(spread > 0.0, spread, 1.0)
    saturation = tf.where(value > 0.0, spread / tf.where(value > 0.0, value, 1.0), 0.0)
    hue = tf.where(
        tf.equal(red, value),
        (green - blue) / some,
        tf.where(tf.equal(green, value), (blue - red) / some + 2.0, (red - green) / some + 4.0),
    )
    hue = tf.where(spread > 0.0, hue / 6.0, 0.0)
    return tf.concat([tf.where(hue < 0.0, hue + 1.0, hue), saturation, value], axis=axis)


def _rgb(tf: Any, images: Any, axis: int) -> Any:
    hue, saturation, value = tf.split(images, 3, axis=axis)
    sixths = hue * 6.0
    parts = (tf.abs(sixths - 3.0) - 1.0, 2.0 - tf.abs(sixths - 2.0), 2.0 - tf.abs(sixths - 4.0))
    colors = [(1.0 - saturation + saturation * tf.clip_by_value(part, 0.0, 1.0)) * value for part in parts]
    return tf.concat(colors, axis=axis)
