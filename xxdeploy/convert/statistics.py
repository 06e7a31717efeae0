"""What a network's batch normalisations know about its activations: their mean and deviation, without an image.

In training, a batch normalisation gives each channel the mean ``beta`` and the deviation ``|gamma|`` (Ioffe & Szegedy
2015, arXiv:1502.03167). So the weights file holds statistics of the training images at every such layer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.libraries import load_keras

log = logging.getLogger(__name__)

Moments = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean and standard deviation (channels,)."""


def batch_norm_statistics(model: Any) -> Mapping[str, Moments]:
    """Return mean and deviation (channels,) float64 of what the batch normalisations of ``model`` write.

    A key is the name of a layer as in the names of the ONNX graph (``inner/conv1`` for a layer of a nested model). For
    a normalisation that alone reads a linear layer it is that layer's: folding leaves its name in the graph.

    A normalisation whose moving variance is the same in every channel never saw a training image (new weights, or
    weights out of which it was folded); it knows nothing and is left out.
    """
    keras = load_keras()
    found: dict[str, Moments] = {}
    for layer, prefix in _layers(model, ""):
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        variance = np.asarray(layer.moving_variance, np.float64)
        if np.ptp(variance) <= 1e-6 * np.abs(variance).max():
            log.info("%s%s has no statistics of training images", prefix, layer.name)
            continue
        mean = np.asarray(layer.beta, np.float64) if layer.center else np.zeros(variance.size)
        deviation = np.abs(np.asarray(layer.gamma, np.float64)) if layer.scale else np.ones(variance.size)
        source = _folded_into(layer)
        found[prefix + (layer.name if source is None else source.name)] = mean, deviation
    return found


def _layers(model: Any, prefix: str) -> Iterator[tuple[Any, str]]:
    """Yield each layer with the path of the models that it lies in."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer, f"{prefix}{layer.name}/")
        else:
            yield layer, prefix


def _folded_into(norm: Any) -> Any:
    """Return the layer that ``norm`` alone reads and that is linear; None if there is none."""
    nodes = norm._inbound_nodes
    if len(nodes) != 1:
        return None
    source = nodes[0].input_tensors[0]._keras_history.operation
    weighs = hasattr(source, "kernel_initializer") or hasattr(source, "depthwise_initializer")
    linear = getattr(getattr(source, "activation", None), "__name__", "") == "linear"
    return source if weighs and linear and len(source._outbound_nodes) == 1 else None
