"""How far float32 itself is from exact: a Keras model next to the same model in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_loader import load_keras

if TYPE_CHECKING:
    import keras


def rounding_errors(
    model: keras.Model, batches: Sequence[NDArray[np.float32]], outputs: Sequence[str]
) -> Mapping[str, float]:
    """Return the largest absolute difference of each output, in float32, from the same model in float64.

    ``batches`` are preprocessed images (n, height, width, channels). Another correct float32 implementation differs
    from Keras by about as much: the error of a sum depends on the order of its terms (N. Higham, Accuracy and Stability
    of Numerical Algorithms, 2002, section 4.2). The float64 copy takes twice the memory of the weights.
    """
    load_keras()
    exact = _in_float64(model)
    errors = dict.fromkeys(outputs, 0.0)
    for batch in batches:
        rounded, right = (_flat(each(batch, training=False)) for each in (model, exact))
        for name, one, other in zip(outputs, rounded, right, strict=True):
            errors[name] = max(errors[name], float(np.abs(one.astype(np.float64) - other).max()))
    return errors


def _in_float64(model: keras.Model) -> keras.Model:
    import keras

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config({**config, "dtype": "float64"} if "dtype" in config else config)

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _flat(results: Any) -> list[NDArray[Any]]:
    import tensorflow as tf

    return [np.asarray(result) for result in tf.nest.flatten(results)]
