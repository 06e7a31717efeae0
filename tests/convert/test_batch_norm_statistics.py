from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.libraries import load_keras
from xxdeploy.convert.statistics import batch_norm_statistics

keras = load_keras()
layers = keras.layers


def trained(model: Any) -> Any:
    """Give each normalisation statistics that tell its channels apart."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            for variable in layer.variables:
                variable.assign(rng.uniform(-2, 2, variable.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    return model


def network() -> Any:
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="plain", use_bias=False)(image)
    x = layers.BatchNormalization(name="plain_bn")(x)
    x = layers.ReLU()(x)
    x = layers.SeparableConv2D(5, 3, name="separable")(x)
    x = layers.BatchNormalization(name="separable_bn", scale=False)(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.BatchNormalization(name="depthwise_bn", center=False)(x)
    x = layers.Conv2D(6, 1, name="bent", activation="relu")(x)
    x = layers.BatchNormalization(name="behind_relu")(x)
    shared = layers.Conv2D(6, 1, name="shared")(x)
    x = layers.Add()([layers.BatchNormalization(name="one_of_two")(shared), shared])
    x = layers.Flatten()(x)
    x = layers.Dense(7, name="dense")(x)
    return keras.Model(image, layers.BatchNormalization(name="dense_bn")(x))


def test_names_and_values() -> None:
    model = trained(network())
    found = batch_norm_statistics(model)
    assert list(found) == ["plain", "separable", "depthwise", "behind_relu", "one_of_two", "dense"]
    mean, deviation = found["plain"]
    np.testing.assert_array_equal(mean, model.get_layer("plain_bn").beta)
    np.testing.assert_array_equal(deviation, np.abs(model.get_layer("plain_bn").gamma))
    np.testing.assert_array_equal(found["separable"][1], 1)
    np.testing.assert_array_equal(found["depthwise"][0], 0)
    assert all(each.dtype == np.float64 for pair in found.values() for each in pair)


def test_nested_models_have_a_path() -> None:
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="c"), layers.BatchNormalization()])
    inner.name = "inner"
    image = keras.Input((8, 8, 3))
    found = batch_norm_statistics(trained(keras.Model(image, layers.ReLU()(inner(image)))))
    assert list(found) == ["inner/c"]


def test_untrained_and_folded_normalisations_know_nothing() -> None:
    assert not batch_norm_statistics(network())


def test_keys_fit_the_optimised_graph() -> None:
    """Every normalised layer of the graph is found again, and its moments are those of its tensor."""
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.graph.optimize import optimize
    from xxdeploy.quantize.graph_view import GraphView
    from xxdeploy.quantize.normal_moments import propagate

    model = trained(network())
    graph, _ = optimize(onnx_from_keras(model, outputs=("features",)))
    found = propagate(GraphView.of(graph), batch_norm_statistics(model))
    assert {"plain/Conv", "depthwise/Conv"} <= found.keys()
    (separable,) = [name for name in found if name.startswith("separable/")]
    np.testing.assert_array_equal(found[separable][0], model.get_layer("separable_bn").beta)
    assert sum(node.output[0].startswith("separable/") for node in graph.proto().graph.node) == 2


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_mean_over_training_images_is_beta(factor: float) -> None:
    """What the statistics claim: normalised with the moments of a batch, channels have mean beta, deviation gamma."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="c")(image)
    model = trained(keras.Model(image, layers.BatchNormalization(name="bn")(x)))
    data = factor * np.random.default_rng(0).standard_normal((32, 8, 8, 3)).astype(np.float32)
    raw = np.asarray(model.get_layer("c")(data))
    norm = model.get_layer("bn")
    norm.moving_mean.assign(raw.mean(axis=(0, 1, 2)))
    norm.moving_variance.assign(raw.var(axis=(0, 1, 2)))
    mean, deviation = batch_norm_statistics(model)["c"]
    output = np.asarray(model(data, training=False))
    np.testing.assert_allclose(output.mean(axis=(0, 1, 2)), mean, atol=1e-4)
    np.testing.assert_allclose(output.std(axis=(0, 1, 2)), deviation, rtol=1e-2)
