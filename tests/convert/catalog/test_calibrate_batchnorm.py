"""Random weights as a trained network has them: no layer's activations shrink or grow from layer to layer."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.catalog.calibrate_batchnorm import settle_batch_norms, textures
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.models.catalog import find

IMAGES = (textures(4, 32, 32, 3) / 127.5 - 1).astype(np.float32)


def shrinking() -> Any:
    """Eight layers such as MobileNet has: each makes what comes in an eighth and less, a normalization believes it."""
    x = image = keras.Input((32, 32, 3))
    for number in range(8):
        start = keras.initializers.RandomUniform(-0.1, 0.1, seed=number)
        x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, depthwise_initializer=start)(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def output_of(model: Any, layer: str) -> Any:
    return np.asarray(keras.Model(model.input, model.get_layer(layer).output)(IMAGES, training=False))


def test_activations_keep_their_size_to_the_end() -> None:
    model = shrinking()
    assert output_of(model, "norm7").std() < 1e-4  # what this is for
    assert settle_batch_norms(model, IMAGES) == 8
    for name in ("norm0", "norm3", "norm7"):
        assert 0.5 < output_of(model, name).std() < 1.1, name


def test_a_layer_gets_the_mean_square_of_its_input() -> None:
    image = keras.Input((8, 8, 2))
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(image, keras.layers.Flatten()(norm(image)))
    picture = np.zeros((2, 8, 8, 2), np.float32)
    picture[0, ..., 0], picture[1, ..., 0] = 3, 5
    settle_batch_norms(model, picture)
    np.testing.assert_array_equal(norm.moving_mean, [0, 0])
    np.testing.assert_array_equal(norm.moving_variance, [8.5, 8.5])


@pytest.mark.parametrize(("activation", "largest"), [("silu", 5), ("relu", 40)])
def test_a_dark_image_keeps_a_signal_where_swish_would_halve_it_in_each_layer(activation: str, largest: float) -> None:
    """Seven layers: the images differ a hundredfold in size, and their outputs less; ReLU keeps the ratio."""
    x = image = keras.Input((32, 32, 3))
    for number in range(7):
        start = keras.initializers.HeNormal(seed=number)
        x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_initializer=start)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation(activation)(x)
    model = keras.Model(image, x)
    settle_batch_norms(model, IMAGES)
    bright, dark = (float(np.abs(model(IMAGES * factor, training=False)).mean()) for factor in (1.0, 0.01))
    shifted = any(np.any(layer.beta) for layer in model.layers if hasattr(layer, "beta"))
    assert shifted == (activation == "silu")
    assert (bright / dark < largest) == shifted


def test_the_same_pictures_give_the_same_weights_and_keras_is_itself_again() -> None:
    call = keras.layers.BatchNormalization.call
    first, second = shrinking(), shrinking()
    for model in (first, second):
        settle_batch_norms(model, IMAGES)
    for one, two in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    assert keras.layers.BatchNormalization.call is call
    before = np.asarray(first.get_layer("norm0").moving_variance)
    KerasRunner(first).run(IMAGES[:1])
    np.testing.assert_array_equal(first.get_layer("norm0").moving_variance, before)


def test_a_network_without_any_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KerasRunner, "run", lambda *_: pytest.fail("nothing was to be run"))
    model = build_model(find("lenet"), weights="none")
    assert settle_batch_norms(model, np.zeros((1, 28, 28, 1), np.float32)) == 0


def test_pictures_have_contrast_in_every_octave() -> None:
    pictures = textures(4, 64, 48, 3).astype(float)
    assert pictures.shape == (4, 64, 48, 3)
    assert 45 < pictures.std() < 70
    steps = [np.diff(pictures[:, ::each], axis=1).std() for each in (1, 2, 4, 8)]
    assert all(10 < near < far for near, far in itertools.pairwise(steps))
    np.testing.assert_array_equal(textures(1, 9, 7, 1, seed=3), textures(1, 9, 7, 1, seed=3))
    assert (textures(1, 9, 7, 1, seed=3) != textures(1, 9, 7, 1, seed=4)).any()
