"""Trace a Keras model into a TensorFlow graph whose weights are inputs.

``tf2onnx.convert.from_keras`` freezes the weights into the graph and then copies them in TensorFlow's
optimizer, in the ``GraphDef``, and in each of its own passes: VGG16 is killed at 24 GB. Here the graph
that is converted holds no weight at all. Each variable is a placeholder; its array joins the ONNX graph
afterwards, once (see ``keras_to_onnx``).

Some Keras layers are traced in a simpler form:

- Batch normalization in inference is one scale and one shift,
  ``y = x * s + b`` with ``s = gamma / sqrt(variance + epsilon)``, ``b = beta - mean * s``
  (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2, step 11), computed here in float64.
- A grouped convolution on the CPU is wrapped by Keras in a jit-compiled inner function, which tf2onnx
  copies into the ONNX graph as an unknown ``StatefulPartitionedCall``. It is traced as ``tf.nn.conv2d``.
- The exact GELU, ``x * erfc(-x / sqrt(2)) / 2`` in TensorFlow, is written with ``erf``, which ONNX has
  (Hendrycks & Gimpel 2016, arXiv:1606.08415).
- Rescaling without an offset does not add its zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.libraries import load_keras


@dataclass(frozen=True, slots=True)
class Trace:
    """A weightless graph and what belongs into it.

    ``graph`` is a ``tf.Graph``; ``inputs`` and ``outputs`` are its tensor names (``x:0``);
    ``weights`` maps the name of each weight placeholder to its array.
    """

    graph: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, NDArray[Any]]


def trace(model: Any) -> Trace:
    """Trace ``model`` (a built ``keras.Model``) for inference with a free batch axis."""
    keras = load_keras()
    import tensorflow as tf
    from tensorflow.python.framework.func_graph import FuncGraph

    norms = [layer for layer in model._flatten_layers() if type(layer) is keras.layers.BatchNormalization]
    folded = {id(variable) for layer in norms for variable in layer.variables}
    variables = [variable for variable in model.variables if id(variable) not in folded]
    affine = {id(layer): scale_and_shift(layer) for layer in norms}
    arrays = [_view(variable) for variable in variables]  # while TensorFlow is still eager

    weights: dict[str, NDArray[Any]] = {}
    # A plain graph refuses arrays that a layer keeps as eager tensors (Normalization); this kind writes them down.
    with FuncGraph("trace", capture_by_value=True).as_default() as graph:

        def placeholder(array: NDArray[Any]) -> Any:
            tensor = tf.compat.v1.placeholder(array.dtype, array.shape, name=f"weight_{len(weights)}")
            weights[tensor.name] = array
            return tensor

        mapping = [(variable, placeholder(array)) for variable, array in zip(variables, arrays, strict=True)]
        pairs = {key: (placeholder(scale), placeholder(shift)) for key, (scale, shift) in affine.items()}
        inputs = [
            tf.compat.v1.placeholder(tensor.dtype, (None, *tensor.shape[1:]), name=f"input_{index}")
            for index, tensor in enumerate(model.inputs)
        ]
        with keras.StatelessScope(state_mapping=mapping), _lean_layers(keras, tf, pairs):
            results = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
        outputs = [tf.identity(result, name=f"output_{index}") for index, result in enumerate(tf.nest.flatten(results))]
    return Trace(graph, tuple(t.name for t in inputs), tuple(t.name for t in outputs), weights)


def _view(variable: Any) -> NDArray[Any]:
    """Return the value of a Keras variable without a copy, where its type has a buffer in Python."""
    try:
        return np.asarray(memoryview(variable.value.read_value()))
    except (TypeError, ValueError, AttributeError, BufferError):  # bfloat16, another kind of variable
        return np.asarray(variable)


def scale_and_shift(layer: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the ``(channels,)`` scale and shift that ``layer`` applies in inference."""
    variance = np.asarray(layer.moving_variance, np.float64)
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma, np.float64)
    shift = -np.asarray(layer.moving_mean, np.float64) * scale
    if layer.center:
        shift = shift + np.asarray(layer.beta, np.float64)
    return scale.astype(np.float32), shift.astype(np.float32)


@contextmanager
def _lean_layers(keras: Any, tf: Any, pairs: Mapping[int, tuple[Any, Any]]) -> Iterator[None]:
    """Replace, while the trace runs, how batch normalization and grouped convolution are called."""
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
