"""The Keras reference runner: the numbers of ``model(x, training=False)``, at any batch size."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.errors import ConversionError
from xxdeploy.models.catalog import BuildOptions, find


@pytest.fixture(scope="module")
def network() -> object:
    """MobileNetV2 with batch norms that differ between training and inference."""
    model = build_model(find("mobilenetv2"), weights="none", options=BuildOptions(0.35, 32, 5))
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            gamma, beta, mean, variance = layer.get_weights()
            noise = [generator.uniform(0.5, 1.5, gamma.shape) for _ in range(2)]
            shift = [generator.normal(0, 0.2, gamma.shape) for _ in range(2)]
            layer.set_weights([gamma * noise[0], beta + shift[0], mean + shift[1], variance * noise[1]])
    return model


def images(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def test_gives_what_the_model_gives_in_inference_mode(network: object) -> None:
    runner = KerasRunner(network)
    assert runner.name == "keras"
    batch = images(17)
    expected = np.asarray(network(batch, training=False))  # type: ignore[operator]
    got = runner.run(batch)
    assert got.dtype == np.float32
    assert got.shape == (17, 5)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)
    assert not np.allclose(got, np.asarray(network(batch, training=True)), atol=1e-3)  # type: ignore[operator]


def test_batches_of_any_size_share_one_trace(network: object) -> None:
    runner = KerasRunner(network)
    batch = images(9)
    whole = runner.run(batch)
    parts = [runner.run(batch[:1]), runner.run(batch[1:4]), runner.run(batch[4:])]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=2e-6)


def test_features_keep_their_axes() -> None:
    options = BuildOptions(alpha=0.35, input_size=64, include_top=False)
    runner = KerasRunner(build_model(find("mobilenetv2"), weights="none", options=options), name="reference")
    assert runner.run(images(2, 64)).shape == (2, 2, 2, 1280)
    assert runner.name == "reference"


@pytest.mark.parametrize(
    "batch",
    [
        images(0),
        images(2, 33),
        images(2)[..., :1],
        images(2)[0],
        images(2).astype(np.float64),
        images(2).astype(np.uint8),
    ],
)
def test_a_batch_that_does_not_fit(batch: np.ndarray, network: object) -> None:
    with pytest.raises(ConversionError) as caught:
        KerasRunner(network).run(batch)
    assert caught.value.code == "wrong-batch"


def test_several_outputs_need_names() -> None:
    keras = load_keras()
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, [keras.layers.Flatten()(image), keras.layers.GlobalMaxPooling2D()(image)])
    batch = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    found = KerasRunner(model, outputs=("flat", "largest")).run_all(batch)
    assert list(found) == ["flat", "largest"]
    np.testing.assert_array_equal(found["largest"], batch.max((1, 2)))
    np.testing.assert_array_equal(KerasRunner(model, outputs=("flat", "largest")).run(batch), batch.reshape(2, -1))
    with pytest.raises(ConversionError, match="2 outputs") as caught:
        KerasRunner(model)
    assert caught.value.code == "output-names"


def test_float64_shows_the_rounding_errors_of_float32() -> None:
    """Small for a network of ordinary size, larger where large terms cancel, zero where nothing rounds."""
    keras = load_keras()
    image = keras.Input((8, 8, 3))
    plain = keras.Model(image, keras.layers.Flatten()(image))
    mixed = keras.layers.Conv2D(4, 3, name="mix")(image)
    ordinary = keras.Model(image, mixed)
    cancelling = keras.Model(image, keras.ops.relu(mixed + 1e6) - 1e6)  # relu: TensorFlow drops + 1e6 - 1e6
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    runners = [KerasRunner(model) for model in (plain, ordinary, cancelling)]
    errors = [np.abs(runner.exact([batch])["output"] - runner.run(batch)).max() for runner in runners]
    assert errors[0] == 0 < errors[1] < 1e-5 < 1e-2 < errors[2]


def test_float64_is_that_of_numpy() -> None:
    """Through a nested model, a layer that is called twice, and operations; the model is unchanged after it."""
    keras = load_keras()
    layers = keras.layers
    inside, mix = keras.Input((4, 4, 3)), layers.Dense(3, use_bias=False)
    inner = keras.Model(inside, layers.LayerNormalization(epsilon=0.5)(mix(inside)))
    image = keras.Input((4, 4, 3))
    x = inner(keras.Sequential([layers.Rescaling(0.125, 0.25), mix])(image))
    model = keras.Model(image, [layers.Dropout(0.5)(keras.ops.tanh(x * 3.0)), mix(image)])
    random = np.random.default_rng(3)
    (weights,) = (value for value in model.get_weights() if value.shape == (3, 3))
    batches = [random.normal(size=(count, 4, 4, 3)).astype(np.float32) for count in (1, 2)]
    runner = KerasRunner(model, outputs=("first", "second"))
    before = runner.run(batches[1])
    exact = runner.exact(batches)
    matrix, images = weights.astype(np.float64), np.concatenate(batches).astype(np.float64)
    mixed = (images / 8 + 0.25) @ matrix @ matrix
    centered = mixed - mixed.mean(-1, keepdims=True)
    expected = np.tanh(3 * centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 0.5))
    np.testing.assert_allclose(exact["first"], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(exact["second"], images @ matrix, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(runner.run(batches[1]), before)
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
