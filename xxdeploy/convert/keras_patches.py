"""Keras operations that are traced in another form than Keras writes them, because tf2onnx or ONNX need it.

- Batch normalization in inference is one scale and one shift, ``y = x * s + b`` (``trace.scale_and_shift``).
- Keras wraps a grouped convolution on the CPU in a jit-compiled inner function, which tf2onnx copies into the ONNX
  graph as an unknown ``StatefulPartitionedCall``. Of a dilated one tf2onnx makes explicit pads, and drops a
  ``ZeroPadding2D`` before it. Both are traced as ``tf.nn.conv2d``.
- A transposed convolution whose output is larger than its kernels reach (``output_padding``, or a kernel smaller than
  the stride) would need negative pads, which ONNX does not have. It is computed whole, then cut and padded with zeros.
- Resizing is two matrix products where ONNX's float32 ``scales`` would miss the size by a pixel, and for each
  interpolation that ONNX lacks or computes with other coefficients (area, bicubic, Lanczos, antialiasing). The
  matrices are TensorFlow's own resize of an identity matrix, so the coefficients are the same. To the nearest pixel it
  is a Gather, unless the factor is whole: of 9,976 pairs of sizes ONNX Runtime took another pixel in 530.
- The exact GELU, ``x * erfc(-x / sqrt(2)) / 2`` in TensorFlow, is written with ``erf``, which ONNX has
  (Hendrycks & Gimpel 2016, arXiv:1606.08415). ``keras_forms`` has others in elementary operators: log1p, HSV, ...
- Rescaling without an offset adds no zero.
- A dense layer over height and width (ConvNeXt) is a 1x1 convolution, which stays in the layout of its neighbors.
  TensorFlow reshapes to a matrix and back, by sizes that it computes from the batch. One over steps is a MatMul.
- Layer normalization over the last axis is written ``(x - mean) / deviation * gamma + beta`` (Ba et al. 2016,
  arXiv:1607.06450), so that gamma and beta fold into the layer that follows. Keras multiplies out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_forms import forms


@contextmanager
def lean_layers(keras: Any, tf: Any, pairs: Mapping[int, tuple[Any, Any]]) -> Iterator[None]:
    """Within this context, Keras runs the operations above in their other form.

    ``pairs`` maps the ``id`` of a batch normalization to its scale and shift, tensors of shape ``(channels,)``.
    """
    from keras.src.backend.tensorflow import image, nn, numpy

    norm, rescaling = keras.layers.BatchNormalization, keras.layers.Rescaling
    layer_norm = keras.layers.LayerNormalization
    originals = {
        (layer_norm, "call"): _lean_layer_norm(tf, layer_norm.call),
        (numpy, "matmul"): _lean_matmul(tf, keras, numpy.matmul),
        (norm, "call"): _lean_norm(tf, norm.call, pairs),
        (rescaling, "call"): _lean_rescaling(tf, rescaling.call),
        (nn, "conv"): _lean_conv(tf, keras, nn.conv),
        (nn, "conv_transpose"): _lean_conv_transpose(tf, keras, nn.conv_transpose),
        (nn, "gelu"): _lean_gelu(tf, nn.gelu),
        **forms(tf),
        (image, "resize"): _lean_resize(tf, keras, image.resize),
    }
    # An older Keras lacks some operations, so no layer of it calls them.
    originals = {(home, name): form for (home, name), form in originals.items() if hasattr(home, name)}
    before = {(home, name): getattr(home, name) for home, name in originals}
    try:
        for (home, name), replacement in originals.items():
            setattr(home, name, replacement)
        yield
    finally:
        for (home, name), original in before.items():
            setattr(home, name, original)


def _lean_norm(tf: Any, original: Any, pairs: Mapping[int, tuple[Any, Any]]) -> Any:
    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if id(self) not in pairs or mask is not None:
            return original(self, inputs, training=training, mask=mask)
        scale, shift = pairs[id(self)]
        axis = self.axis % len(inputs.shape)
        if axis != len(inputs.shape) - 1:
            shape = [-1 if index == axis else 1 for index in range(len(inputs.shape))]
            scale, shift = tf.reshape(scale, shape), tf.reshape(shift, shape)
        # float16 policies: Keras computes this layer in float32 too.
        return tf.cast(tf.cast(inputs, tf.float32) * scale + shift, self.compute_dtype)

    return call


def _lean_layer_norm(tf: Any, original: Any) -> Any:
    def call(self: Any, inputs: Any) -> Any:
        axes = [
            axis % len(inputs.shape) for axis in (self.axis if isinstance(self.axis, (list, tuple)) else [self.axis])
        ]
        if axes != [len(inputs.shape) - 1] or self.rms_scaling or inputs.dtype != tf.float32:
            return original(self, inputs)
        centered = inputs - tf.reduce_mean(inputs, -1, keepdims=True)
        variance = tf.reduce_mean(centered * centered, -1, keepdims=True)
        normal = centered * tf.math.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            normal *= tf.convert_to_tensor(self.gamma)
        return normal if self.beta is None else normal + tf.convert_to_tensor(self.beta)

    return call


def _lean_matmul(tf: Any, keras: Any, original: Any) -> Any:
    def matmul(x1: Any, x2: Any) -> Any:
        weights = isinstance(x2, keras.Variable) and len(x2.shape) == 2
        if not weights or len(x1.shape) not in (3, 4) or not x1.dtype == x2.dtype == tf.float32:
            return original(x1, x2)
        if len(x1.shape) == 3:
            return tf.matmul(x1, tf.convert_to_tensor(x2))
        return tf.nn.conv2d(x1, tf.convert_to_tensor(x2)[tf.newaxis, tf.newaxis], 1, "VALID")

    return matmul


def _lean_rescaling(tf: Any, original: Any) -> Any:
    def call(self: Any, inputs: Any) -> Any:
        if isinstance(self.offset, (int, float)) and isinstance(self.scale, (int, float)) and not self.offset:
            return tf.cast(inputs, self.compute_dtype) * tf.cast(self.scale, self.compute_dtype)
        return original(self, inputs)

    return call


def _lean_conv(tf: Any, keras: Any, original: Any) -> Any:
    def conv(
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        grouped = inputs.shape[-1] != kernel.shape[-2]
        dilated = any(rate != 1 for rate in _two(dilation_rate))
        if len(inputs.shape) == 4 and (grouped or dilated) and _is_channels_last(keras, data_format):
            if dilated and padding == "same" and None not in inputs.shape[1:3]:
                # ONNX Runtime's SAME_UPPER does not know dilations.
                inputs, padding = tf.pad(inputs, same_pads(inputs, kernel, strides, dilation_rate)), "valid"
            return tf.nn.conv2d(inputs, kernel, strides, padding.upper(), dilations=dilation_rate)
        return original(inputs, kernel, strides, padding, data_format, dilation_rate)

    return conv


def same_pads(inputs: Any, kernel: Any, strides: Any, dilation_rate: Any) -> list[list[int]]:
    """Return the pads of TensorFlow's SAME for each axis of ``inputs`` (n, height, width, channels)."""
    pads = [[0, 0]]
    for size, taps, step, rate in zip(
        inputs.shape[1:3], kernel.shape[:2], _two(strides), _two(dilation_rate), strict=True
    ):
        total = max((-(-size // step) - 1) * step + (taps - 1) * rate + 1 - size, 0)
        pads.append([total // 2, total - total // 2])
    return [*pads, [0, 0]]


def _lean_conv_transpose(tf: Any, keras: Any, original: Any) -> Any:
    from keras.src.backend.common.backend_utils import compute_conv_transpose_output_shape

    def conv_transpose(
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        def plain() -> Any:
            return original(inputs, kernel, strides, padding, output_padding, data_format, dilation_rate)

        if len(inputs.shape) != 4 or None in inputs.shape[1:-1] or not _is_channels_last(keras, data_format):
            return plain()
        steps, rates = _two(strides), _two(dilation_rate)
        wanted = compute_conv_transpose_output_shape(
            [1, *inputs.shape[1:]],
            kernel.shape[:2],
            kernel.shape[2],
            steps,
            padding,
            output_padding,
            "channels_last",
            rates,
        )[1:3]
        result = transposed_convolution(tf, inputs, kernel, steps, rates, wanted, padding)
        return plain() if result is None else result

    return conv_transpose


def transposed_convolution(
    tf: Any, inputs: Any, kernel: Any, steps: Any, rates: Any, wanted: Any, padding: str
) -> Any | None:
    """Compute a transposed convolution whole, then cut and pad it to the height and width ``wanted``.

    ``inputs`` is (n, height, width, channels) of known size; ``padding`` is same or valid. None if nothing is missing.
    """
    size = inputs.shape[1:-1]
    reach = [(kernel.shape[axis] - 1) * rates[axis] + 1 for axis in (0, 1)]
    whole = [(size[axis] - 1) * steps[axis] + reach[axis] for axis in (0, 1)]
    cut = [
        max((-(-wanted[axis] // steps[axis]) - 1) * steps[axis] + reach[axis] - wanted[axis], 0) // 2
        if padding == "same"
        else 0
        for axis in (0, 1)
    ]
    missing = [max(cut[axis] + wanted[axis] - whole[axis], 0) for axis in (0, 1)]
    if not any(missing):
        return None
    shape = [tf.shape(inputs)[0], *whole, kernel.shape[2]]
    result = tf.nn.conv_transpose(inputs, kernel, shape, steps, "VALID", dilations=rates)
    result = tf.pad(result, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
    return result[:, cut[0] : cut[0] + wanted[0], cut[1] : cut[1] + wanted[1]]


def _lean_gelu(tf: Any, original: Any) -> Any:
    def gelu(x: Any, approximate: bool = True) -> Any:
        x = tf.convert_to_tensor(x)
        return original(x, approximate=True) if approximate else 0.5 * x * (1.0 + tf.math.erf(x * 0.5**0.5))

    return gelu


def _lean_resize(tf: Any, keras: Any, original: Any) -> Any:
    signature = inspect.signature(original)

    def resize(
        images: Any, size: Any, interpolation: str = "bilinear", antialias: bool = False, *rest: Any, **named: Any
    ) -> Any:
        given = signature.bind(images, size, interpolation, antialias, *rest, **named)
        given.apply_defaults()
        options = given.arguments
        images, size = tf.convert_to_tensor(images), tuple(size)
        if len(images.shape) != 4 or None in images.shape[1:3] or options["fill_mode"] != "constant":
            return original(*given.args, **given.kwargs)
        first = not _is_channels_last(keras, options["data_format"])
        if first:
            images = tf.transpose(images, (0, 2, 3, 1))
        if options["crop_to_aspect_ratio"]:
            images = _cropped(images, size)
        elif options["pad_to_aspect_ratio"]:
            images = _padded(tf, images, size, options["fill_value"])
        result = _resized(tf, images, size, interpolation, antialias)
        return tf.transpose(result, (0, 3, 1, 2)) if first else result

    return resize


def _cropped(images: Any, size: tuple[int, int]) -> Any:
    """Cut the middle that has the aspect ratio of ``size``, with Keras' float32 arithmetic."""
    height, width = images.shape[1:3]
    tall = max(min(height, _ratio(width * size[0], size[1])), 1)
    wide = max(min(width, _ratio(height * size[1], size[0])), 1)
    top, left = int((height - tall) / 2), int((width - wide) / 2)
    return images[:, top : top + tall, left : left + wide, :]


def _padded(tf: Any, images: Any, size: tuple[int, int], value: float) -> Any:
    """Pad both sides alike to about the aspect ratio of ``size``; as in Keras, an odd pixel is left out."""
    height, width = images.shape[1:3]
    top = int((max(height, _ratio(width * size[0], size[1])) - height) / 2)
    left = int((max(width, _ratio(height * size[1], size[0])) - width) / 2)
    return tf.pad(images, [[0, 0], [top, top], [left, left], [0, 0]], constant_values=value) if top or left else images


def _ratio(number: int, divisor: int) -> int:
    return int(np.float32(number) / np.float32(divisor))


def _resized(tf: Any, images: Any, size: tuple[int, int], interpolation: str, antialias: bool) -> Any:
    before = tuple(images.shape[1:3])
    if before == size and not (antialias and interpolation.startswith("lanczos")):
        return tf.cast(images, tf.float32) if interpolation != "nearest" else images
    is_exact = {"nearest": is_exact_nearest, "bilinear": is_exact_bilinear}.get(interpolation)
    if is_exact and not antialias and all(is_exact(old, new) for old, new in zip(before, size, strict=True)):
        return tf.image.resize(images, size, method=interpolation)
    if interpolation == "nearest":
        for axis, (old, new) in enumerate(zip(before, size, strict=True), start=1):
            images = tf.gather(images, _nearest(tf, old, new), axis=axis)
        return images
    rows, columns = (_matrix(tf, old, new, interpolation, antialias) for old, new in zip(before, size, strict=True))
    planes = tf.transpose(tf.cast(images, tf.float32), (0, 3, 1, 2))
    planes = tf.matmul(tf.constant(rows), tf.matmul(planes, tf.constant(columns.T)))
    return tf.transpose(planes, (0, 2, 3, 1))


def is_exact_bilinear(old: int, new: int) -> bool:
    """Tell whether ONNX's Resize gets the size from its float32 scale, also where an engine does not round it."""
    return int(np.floor(old * float(np.float32(new) / np.float32(old)))) == new


def is_exact_nearest(old: int, new: int) -> bool:
    """Tell whether ONNX's Resize copies TensorFlow's pixels: otherwise a middle between two may round to either."""
    factor = old // new
    return new % old == 0 or (old % new == 0 and factor & (factor - 1) == 0)


def _nearest(tf: Any, old: int, new: int) -> NDArray[np.int32]:
    """Return the index of the pixel that each new one copies."""
    with tf.init_scope():  # eager, although a graph is being traced
        line = tf.reshape(tf.range(old, dtype=tf.float32), (1, old, 1, 1))
        return np.asarray(tf.image.resize(line, (new, 1), method="nearest")).reshape(new).astype(np.int32)


def _matrix(tf: Any, old: int, new: int, interpolation: str, antialias: bool) -> NDArray[np.float32]:
    """Return the matrix (new, old) of TensorFlow's resize along one axis."""
    with tf.init_scope():
        unit = tf.reshape(tf.eye(old), (1, old, 1, old))
        resized = tf.image.resize(unit, (new, 1), method=interpolation, antialias=antialias)
        return np.asarray(resized, np.float32).reshape(new, old)


def _two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _is_channels_last(keras: Any, data_format: str | None) -> bool:
    return (data_format or keras.config.image_data_format()) == "channels_last"
