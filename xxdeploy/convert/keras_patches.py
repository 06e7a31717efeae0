"""Patches of Keras that trace some layers in a simpler form.

- Batch normalization in inference is one scale and one shift, ``y = x * s + b`` (``trace.scale_and_shift``).
- Keras wraps a grouped convolution on the CPU in a jit-compiled inner function, which tf2onnx copies into the ONNX
  graph as an unknown ``StatefulPartitionedCall``. It is traced as ``tf.nn.conv2d``.
- The exact GELU, ``x * erfc(-x / sqrt(2)) / 2`` in TensorFlow, is computed with ``erf``, which ONNX has (Hendrycks &
  Gimpel 2016, arXiv:1606.08415).
- CELU is computed with ``exp``, since ONNX has no ``Expm1``.
- Rescaling without an offset adds no zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def lean_layers(keras: Any, tf: Any, pairs: Mapping[int, tuple[Any, Any]]) -> Iterator[None]:
    """Within this context, Keras calls the layers above in their simpler form.

    ``pairs`` maps the ``id`` of a batch normalization to its scale and shift, tensors of shape ``(channels,)``.
    """
    from keras.src.backend.tensorflow import nn

    norm, rescaling = keras.layers.BatchNormalization, keras.layers.Rescaling
    norm_call, rescaling_call, conv, gelu, celu = norm.call, rescaling.call, nn.conv, nn.gelu, nn.celu

    def lean_norm(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if id(self) not in pairs or mask is not None:
            return norm_call(self, inputs, training=training, mask=mask)
        scale, shift = pairs[id(self)]
        axis = self.axis % len(inputs.shape)
        if axis != len(inputs.shape) - 1:
            shape = [-1 if index == axis else 1 for index in range(len(inputs.shape))]
            scale, shift = tf.reshape(scale, shape), tf.reshape(shift, shape)
        # float16 policies: Keras computes this layer in float32 too.
        return tf.cast(tf.cast(inputs, tf.float32) * scale + shift, self.compute_dtype)

    def lean_conv(
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        grouped = len(inputs.shape) == 4 and inputs.shape[-1] != kernel.shape[-2]
        if grouped and (data_format or keras.config.image_data_format()) == "channels_last":
            return tf.nn.conv2d(inputs, kernel, strides, padding.upper(), dilations=dilation_rate)
        return conv(inputs, kernel, strides, padding, data_format, dilation_rate)

    def lean_gelu(x: Any, approximate: bool = True) -> Any:
        x = tf.convert_to_tensor(x)
        return gelu(x, approximate=True) if approximate else 0.5 * x * (1.0 + tf.math.erf(x * 0.5**0.5))

    def lean_celu(x: Any, alpha: float = 1.0) -> Any:
        return tf.maximum(x, 0.0) + alpha * (tf.exp(tf.minimum(x, 0.0) / alpha) - 1.0)  # ONNX has no Expm1

    def lean_rescaling(self: Any, inputs: Any) -> Any:
        if isinstance(self.offset, (int, float)) and isinstance(self.scale, (int, float)) and not self.offset:
            return tf.cast(inputs, self.compute_dtype) * tf.cast(self.scale, self.compute_dtype)
        return rescaling_call(self, inputs)

    norm.call, rescaling.call = lean_norm, lean_rescaling
    nn.conv, nn.gelu, nn.celu = lean_conv, lean_gelu, lean_celu
    try:
        yield
    finally:
        norm.call, rescaling.call = norm_call, rescaling_call
        nn.conv, nn.gelu, nn.celu = conv, gelu, celu
