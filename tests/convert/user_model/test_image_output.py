"""Outputs that are pictures or masks: their shape, their range, and the options about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from xxdeploy.convert.user_model.image_output import ImageRequest
from xxdeploy.convert.user_model.prepare import PreparedModel, prepare_model
from xxdeploy.errors import UsageError

L = keras.layers
Last = Callable[[Any], Any]
MASK, PIXELS = ImageRequest(is_mask=True), ImageRequest((0.0, 1.0), is_mask=False)


def net(last: Last, channels: int = 3) -> keras.Model:
    image = keras.Input((8, 6, channels))
    return keras.Model(image, last(L.Conv2D(4, 3, padding="same", name="body")(image)))


def conv(channels: int, activation: str | None = None) -> Last:
    last: Last = L.Conv2D(channels, 1, activation=activation, name="end")
    return last


def prepared(last: Last, asked: ImageRequest | None = None, channels: int = 3) -> PreparedModel:
    return prepare_model(net(last, channels), task="image", image=asked or ImageRequest())


@pytest.mark.parametrize(
    ("last", "output_range"),
    [
        (conv(3, "sigmoid"), (0, 1)),
        (conv(3, "tanh"), (-1, 1)),
        (lambda x: L.Rescaling(255.0)(conv(3, "sigmoid")(x)), (0, 255)),
        (lambda x: L.Rescaling(0.5, 0.5)(conv(3, "tanh")(x)), (0, 1)),
        (lambda x: (conv(3, "tanh")(x) + 1) * 127.5, (0, 255)),
        (lambda x: 1 - conv(3, "sigmoid")(x), (0, 1)),
        (lambda x: conv(3, "tanh")(x) / 2 + 0.5, (0, 1)),
        (lambda x: keras.ops.clip(conv(3)(x), 0, 1), (0, 1)),
        (lambda x: L.ReLU(max_value=1.0)(conv(3)(x)), (0, 1)),
        (lambda x: L.UpSampling2D(interpolation="bilinear")(conv(3, "sigmoid")(x)), (0, 1)),
        (lambda x: keras.ops.depth_to_space(conv(12, "tanh")(x), 2), (-1, 1)),
        (lambda x: L.Activation("tanh")(conv(3)(x)), (-1, 1)),
    ],
)
def test_the_last_activation_says_the_range(last: Last, output_range: tuple[float, float]) -> None:
    (output,) = prepared(last).outputs
    assert (output.name, output.task, output.classes) == ("picture", "image", None)
    assert output.output_range == output_range
    assert output.shape[-1] == 3


@pytest.mark.parametrize(
    "last",
    [
        conv(3),
        conv(3, "relu"),
        lambda x: L.Rescaling(0.8, 0.1)(conv(3, "sigmoid")(x)),
        lambda x: L.UpSampling2D(interpolation="bicubic")(conv(3, "sigmoid")(x)),
        lambda x: L.Add()([conv(3, "sigmoid")(x), L.Conv2D(3, 1)(x)]),
    ],
)
def test_an_unknown_range_is_asked_for_and_then_taken(last: Last) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(last)
    assert caught.value.code == "output-range-unknown"
    assert "--output-range 0..255" in caught.value.hint
    assert "--output-range=classes" in caught.value.hint
    assert prepared(last, PIXELS).outputs[0].output_range == (0.0, 1.0)
    assert prepared(last, MASK).classes == 3


@pytest.mark.parametrize(
    ("last", "input_channels", "classes"),
    [
        (conv(3, "softmax"), 3, 3),
        (conv(2, "softmax"), 1, 2),
        (conv(1, "sigmoid"), 3, 2),  # an object in a color picture
        (conv(5, "sigmoid"), 3, 5),
        (conv(21), 3, 21),
    ],
)
def test_channels_that_are_classes(last: Last, input_channels: int, classes: int) -> None:
    found = prepared(last, channels=input_channels)
    (output,) = found.outputs
    assert (output.name, output.task, output.classes, output.output_range) == ("mask", "image", classes, None)
    assert found.notes


def test_a_gray_picture_of_a_gray_picture_may_be_said_to_be_a_mask() -> None:
    last = conv(1, "sigmoid")
    found = prepared(last, channels=1)
    assert found.outputs[0].output_range == (0.0, 1.0)
    assert "add --output-range classes" in found.notes[0]
    assert prepared(conv(1, "sigmoid"), MASK, 1).classes == 2
    assert prepared(conv(1, "sigmoid"), PIXELS, 3).classes is None


@pytest.mark.parametrize(("channels", "added"), [(4, "Softmax"), (1, "sigmoid")])
def test_logits_of_a_mask_become_probabilities(channels: int, added: str) -> None:
    model = net(conv(channels))
    found = prepare_model(model, task="image", image=MASK)
    assert any(f"a {added} was added" in note for note in found.notes)
    images = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    logits, scores = (np.asarray(net(images)) for net in (model, found.model))
    right = 1 / (1 + np.exp(-logits)) if channels == 1 else np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(scores, right, atol=1e-6)


@pytest.mark.parametrize(
    ("last", "shape"),
    [
        (lambda x: L.Reshape((48, 4))(conv(4, "softmax")(x)), (8, 6, 4)),
        (lambda x: L.Softmax()(L.Reshape((12, 4))(L.AveragePooling2D(2)(conv(4)(x)))), (4, 3, 4)),
        (lambda x: L.Reshape((8, 6))(conv(1, "sigmoid")(x)), (8, 6, 1)),
    ],
)
def test_lists_of_pixels_and_missing_channels_become_pictures(last: Last, shape: tuple[int, ...]) -> None:
    model = net(last)
    found = prepare_model(model, task="image")
    assert found.outputs[0].shape == found.model.output_shape[1:] == shape
    images = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(found.model(images)).ravel(), np.asarray(model(images)).ravel())


@pytest.mark.parametrize(
    "last",
    [
        L.GlobalAveragePooling2D(),
        lambda x: L.Reshape((2, 2, 4, 12))(x),
        lambda x: L.Softmax()(L.Reshape((24, 8))(x)),
        lambda x: L.Conv2D(300, 1, activation="softmax")(x),
    ],
)
def test_what_is_no_picture(last: Last) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(last)
    assert caught.value.code == "image-output"
    assert "--task values" in caught.value.hint
    assert prepare_model(net(last), task="values").task == "values"


def test_two_channels_are_no_picture() -> None:
    with pytest.raises(UsageError) as caught:
        prepared(conv(2, "tanh"), PIXELS)
    assert caught.value.code == "image-output"


def test_of_several_outputs_the_first_picture_is_measured() -> None:
    image = keras.Input((8, 8, 3))
    body = L.Conv2D(4, 3, padding="same")(image)
    code = L.Dense(5, name="code")(L.Flatten()(body))
    clean = L.Conv2D(3, 1, activation="sigmoid", name="clean")(body)
    found = prepare_model(keras.Model(image, [code, clean]), task="image")
    assert [(output.name, output.task) for output in found.outputs] == [("clean", "image"), ("code", "features")]
    assert found.model.output_shape == [(None, 8, 8, 3), (None, 5)]
    both = prepare_model(keras.Model(image, [code, clean]), task="values")
    assert [(output.name, output.task) for output in both.outputs] == [("code", "values"), ("clean", "values")]
