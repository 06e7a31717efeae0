"""Trace a Keras model into a TensorFlow graph whose weights are placeholders.

``tf2onnx.convert.from_keras`` freezes the weights into the graph and then copies them in TensorFlow's optimizer, in
the ``GraphDef``, and in each of its own passes: VGG16 is killed at 24 GB. Here the converted graph contains no weights.
Each variable is a placeholder, and its array joins the ONNX graph once, afterwards (``keras_to_onnx``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_loader import load_keras, replaced
from xxdeploy.convert.keras_patches import lean_layers
from xxdeploy.convert.recurrent import onnx_cells, recurrent_as_nodes
from xxdeploy.convert.tensors import view


@dataclass(frozen=True, slots=True)
class Trace:
    """A graph without weights, and the weights.

    ``graph`` is a ``tf.Graph``; ``inputs`` and ``outputs`` are its tensor names (``x:0``); ``weights`` maps the name of
    each weight placeholder to its array.
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

    saved = _saved_values(model)
    norms = [layer for layer in model._flatten_layers() if type(layer) is keras.layers.BatchNormalization]
    folded = {id(variable) for layer in norms for variable in layer.variables}
    folded |= {id(variable) for layer in model._flatten_layers() if id(layer) in saved for variable in layer.variables}
    variables = [variable for variable in model.variables if id(variable) not in folded]
    affine = {id(layer): scale_and_shift(layer) for layer in norms}
    recurrent = onnx_cells(keras, model)
    arrays = [view(variable.value) for variable in variables]  # while TensorFlow is still eager

    weights: dict[str, NDArray[Any]] = {}
    # A plain graph refuses eager tensors inside layers (Normalization); this kind turns them into constants.
    with FuncGraph("trace", capture_by_value=True).as_default() as graph:

        def placeholder(array: NDArray[Any]) -> Any:
            tensor = tf.compat.v1.placeholder(array.dtype, array.shape, name=f"weight_{len(weights)}")
            weights[tensor.name] = array
            return tensor

        mapping = [(variable, placeholder(array)) for variable, array in zip(variables, arrays, strict=True)]
        operands = _operands(tf, saved, placeholder)
        pairs = {key: (placeholder(scale), placeholder(shift)) for key, (scale, shift) in affine.items()}
        inputs = [
            tf.compat.v1.placeholder(tensor.dtype, (None, *tensor.shape[1:]), name=f"input_{index}")
            for index, tensor in enumerate(model.inputs)
        ]
        cells = {key: (cell, tuple(map(placeholder, cell.arrays))) for key, cell in recurrent.items()}
        with (
            keras.StatelessScope(state_mapping=mapping),
            lean_layers(keras, tf, pairs),
            recurrent_as_nodes(keras, tf, cells),
            _with_operands(operands),
        ):
            results = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
        outputs = [tf.identity(result, name=f"output_{index}") for index, result in enumerate(tf.nest.flatten(results))]
    return Trace(graph, tuple(t.name for t in inputs), tuple(t.name for t in outputs), weights)


def _saved_values(model: Any) -> dict[int, list[NDArray[Any]]]:
    """Return the values that each layer of a SavedModel needs, by its ``id``; layers share the array of a variable."""
    known: dict[int, NDArray[Any]] = {}

    def array(value: Any) -> NDArray[Any]:
        return known.setdefault(id(value), value if isinstance(value, np.ndarray) else view(value))

    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "operand_values")]
    return {id(layer): [array(value) for value in layer.operand_values()] for layer in layers}


def _operands(tf: Any, saved: Mapping[int, list[NDArray[Any]]], placeholder: Any) -> dict[int, list[Any]]:
    """Return a placeholder for each array of floats, one for all layers that share it; integers are constants."""
    known: dict[int, Any] = {}

    def tensor(array: NDArray[Any]) -> Any:
        if array.dtype.kind != "f":
            return tf.constant(array)
        if id(array) not in known:
            known[id(array)] = placeholder(array)
        return known[id(array)]

    return {key: [tensor(array) for array in arrays] for key, arrays in saved.items()}


@contextmanager
def _with_operands(operands: Mapping[int, list[Any]]) -> Iterator[None]:
    """Within this context the layers of a SavedModel compute with ``operands``."""
    if not operands:
        yield
        return
    from xxdeploy.convert.user_model.saved_model.layer import SavedModelLayer

    with replaced(SavedModelLayer, "operands", operands):
        yield


def scale_and_shift(layer: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the scale and shift, float32 ``(channels,)``, that a batch normalization applies in inference.

    ``scale = gamma / sqrt(variance + epsilon)``, ``shift = beta - mean * scale``, computed in float64 (Ioffe & Szegedy
    2015, arXiv:1502.03167, algorithm 2, step 11).
    """
    variance = np.asarray(layer.moving_variance, np.float64)
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma, np.float64)
    shift = -np.asarray(layer.moving_mean, np.float64) * scale
    if layer.center:
        shift = shift + np.asarray(layer.beta, np.float64)
    return scale.astype(np.float32), shift.astype(np.float32)
