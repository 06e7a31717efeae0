from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import user_nets

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.describe import describe_model
from xxdeploy.convert.user_model.preprocessing import choose_preprocess
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess, Sizing


def conv(layers: Any, x: Any) -> Any:
    return layers.Conv2D(4, 3, name="conv")(x)


def rescaling(layers: Any, x: Any) -> Any:
    return conv(layers, layers.Rescaling(1 / 255, name="scale")(x))


def behind_augmentation(layers: Any, x: Any) -> Any:
    x = layers.RandomRotation(0.1)(layers.RandomFlip()(x))
    return conv(layers, layers.Rescaling(1 / 255, name="scale")(layers.Resizing(8, 8)(layers.Dropout(0.1)(x))))


def in_a_model_inside(layers: Any, x: Any) -> Any:
    front = load_keras().Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255, name="scale")], name="front")
    return conv(layers, front(x))


def in_the_backbone(layers: Any, x: Any) -> Any:
    keras = load_keras()
    image = keras.Input((16, 16, 3))
    return keras.Model(image, rescaling(layers, image), name="backbone")(x)


def arithmetic(layers: Any, x: Any) -> Any:
    return conv(layers, x / 127.5 - 1.0)


def caffe(layers: Any, x: Any) -> Any:
    return conv(layers, load_keras().applications.resnet.preprocess_input(x))


def normalized(layers: Any, x: Any) -> Any:
    return conv(layers, layers.Normalization(mean=[1.0, 2, 3], variance=[1.0, 2, 3], name="scale")(x))


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (rescaling, ["scale"]),
        (behind_augmentation, ["scale"]),
        (in_a_model_inside, ["scale"]),
        (in_the_backbone, ["scale"]),
        (arithmetic, ["true_divide", "subtract"]),
        (caffe, ["add"]),
        (normalized, ["scale"]),
    ],
)
def test_scaling_inside_is_found_and_given_raw_pixels(body: Callable[[Any, Any], Any], names: list[str]) -> None:
    described = describe_model(user_nets.net(body))
    assert [name.rpartition("_")[0] if name[-1].isdigit() else name for name in described.scaling] == names
    preprocess, notes = choose_preprocess(described, None, sizing=Sizing("crop"))
    assert preprocess == Preprocess(16, 16, 3, "none", Sizing("crop"))
    assert described.scaling[0] in notes[0]


def late(layers: Any, x: Any) -> Any:
    return layers.Rescaling(0.1)(conv(layers, x)) * 2


def only_augmentation(layers: Any, x: Any) -> Any:
    return conv(layers, layers.RandomZoom(0.1)(x))


def two_pixels(layers: Any, x: Any) -> Any:
    return conv(layers, layers.Add()([x, layers.Cropping2D(0)(x)]))  # adds no constant


def beside(layers: Any, x: Any) -> Any:
    return conv(layers, layers.Multiply()([x, layers.Conv2D(3, 1, activation="sigmoid")(x)]))


@pytest.mark.parametrize("body", [conv, late, only_augmentation, two_pixels, beside])
def test_without_scaling_inside_nothing_is_guessed(body: Callable[[Any, Any], Any]) -> None:
    described = describe_model(user_nets.net(body))
    assert described.scaling == ()
    with pytest.raises(UsageError) as caught:
        choose_preprocess(described, None)
    assert caught.value.code == "preprocess-unknown"
    assert "--preprocess tf|caffe|torch|none|0..1|FILE" in caught.value.hint
    assert choose_preprocess(described, "torch")[0].to_json()["mode"] == "torch"


@pytest.mark.parametrize("asked", ["tf", "0..1"])
def test_scaling_twice_is_an_error_unless_it_is_meant(asked: str) -> None:
    described = describe_model(user_nets.net(rescaling))
    assert choose_preprocess(described, "none") == (Preprocess(16, 16, 3, "none"), ())
    with pytest.raises(UsageError) as caught:
        choose_preprocess(described, asked)
    assert caught.value.code == "scaled-twice"
    assert "leave --preprocess out" in caught.value.hint
    assert "--scale-twice" in caught.value.hint
    preprocess, notes = choose_preprocess(described, asked, twice=True)
    assert preprocess == choose_preprocess(describe_model(user_nets.net(conv)), asked)[0]
    assert notes[0].startswith("WARNING: pixels are scaled twice")


FAMILIES = [
    ("MobileNetV2", "tf", {"alpha": 0.35}, 32),
    ("MobileNet", "tf", {"alpha": 0.25}, 32),
    ("DenseNet121", "torch", {}, 32),
    ("ResNet50V2", "tf", {}, 32),
    ("ResNet50", "caffe", {}, 32),
    ("VGG16", "caffe", {}, 32),
    ("VGG19", "caffe", {}, 32),
    ("InceptionV3", "tf", {}, 75),
    ("Xception", "tf", {}, 71),
]


@pytest.mark.parametrize(("name", "mode", "options", "size"), FAMILIES, ids=lambda value: str(value))
def test_the_likely_answer_is_that_of_the_backbone(
    name: str, mode: str, options: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xxdeploy.convert.catalog.initialize import drawn_by_numpy

    keras = load_keras()
    with drawn_by_numpy(None):
        backbone = getattr(keras.applications, name)(
            weights=None, include_top=False, input_shape=(size, size, 3), **options
        )
    image = keras.Input((size, size, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(image))
    described = describe_model(keras.Model(image, keras.layers.Dense(3, "softmax")(pooled)))
    assert (described.family, described.likely, described.classes) == (name, mode, 3)
    with pytest.raises(UsageError) as caught:
        choose_preprocess(described, None)
    assert f"--preprocess {mode}" in caught.value.hint
    assert name in caught.value.hint


def test_augmentations_are_named_and_do_nothing() -> None:
    model = user_nets.net(behind_augmentation)
    described = describe_model(model)
    assert len(described.augmentations) == 2
    images = user_nets.pictures(model)
    first = np.asarray(model(images, training=False))
    np.testing.assert_array_equal(model(images, training=False), first)
