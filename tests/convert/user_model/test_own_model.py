"""What a model takes and gives, read from its layers: sizes, scaling, outputs, family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import own_nets
import pytest

from xxdeploy.convert.libraries import load_keras
from xxdeploy.convert.user_model.own_model import describe_own_model
from xxdeploy.convert.user_model.own_preprocess import own_preprocess
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    load_keras().backend.clear_session()


def conv(layers: Any, x: Any) -> Any:
    return layers.Conv2D(4, 3, name="conv")(x)


# ------------------------------------------------------------ scaling inside


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
    own = describe_own_model(own_nets.net(body))
    assert [name.rpartition("_")[0] if name[-1].isdigit() else name for name in own.scaling] == names
    preprocess, notes = own_preprocess(own, None, resize="crop")
    assert preprocess == Preprocess(16, 16, 3, "none", "crop")
    assert own.scaling[0] in notes[0]


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
    own = describe_own_model(own_nets.net(body))
    assert own.scaling == ()
    with pytest.raises(UsageError) as caught:
        own_preprocess(own, None)
    assert caught.value.code == "preprocess-unknown"
    assert "--preprocess tf|caffe|torch|none|FILE" in caught.value.hint
    assert own_preprocess(own, "torch")[0].mode == "torch"


def test_scaling_twice_is_said() -> None:
    own = describe_own_model(own_nets.net(rescaling))
    assert own_preprocess(own, "none") == (Preprocess(16, 16, 3, "none"), ())
    preprocess, notes = own_preprocess(own, "tf")
    assert preprocess.mode == "tf"
    assert "before it" in notes[0]


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
    own = describe_own_model(keras.Model(image, keras.layers.Dense(3, "softmax")(pooled)))
    assert (own.family, own.likely, own.classes) == (name, mode, 3)
    with pytest.raises(UsageError) as caught:
        own_preprocess(own, None)
    assert f"--preprocess {mode}" in caught.value.hint
    assert name in caught.value.hint


def test_resnets_of_pytorch_are_told_apart() -> None:
    from xxdeploy.models.resnet import resnet18

    own = describe_own_model(resnet18(weights=None, input_shape=(32, 32, 3), classes=4))
    assert own.likely == "torch"


# ------------------------------------------------------------ inputs


def test_sizes_channels_and_batch() -> None:
    own = describe_own_model(own_nets.net(conv, (20, 24, 1)))
    assert (own.height, own.width, own.channels, own.batch) == (20, 24, 1, None)
    keras = load_keras()
    image = keras.Input(batch_shape=(8, 9, 9, 3))
    assert describe_own_model(keras.Model(image, keras.layers.Flatten()(image))).batch == 8


def test_pictures_of_any_size_need_one() -> None:
    with pytest.raises(UsageError, match="any size") as caught:
        describe_own_model(own_nets.net(conv, (None, None, 3)))  # type: ignore[arg-type]
    assert (caught.value.code, "--input-size N" in caught.value.hint) == ("input-size-missing", True)
    with pytest.raises(UsageError) as caught:
        describe_own_model(own_nets.net(behind_augmentation, (None, None, 3)))  # type: ignore[arg-type]
    assert "--input-size 8" in caught.value.hint


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4), (3, 8, 8), (4, 4, 4, 3)])
def test_inputs_that_are_no_pictures(shape: tuple[int, ...]) -> None:
    keras = load_keras()
    image = keras.Input(shape)
    with pytest.raises(UsageError) as caught:
        describe_own_model(keras.Model(image, keras.layers.Flatten()(image)))
    assert caught.value.code == "not-an-image"
    assert ("channels_last" in caught.value.hint) == (shape == (3, 8, 8))


def test_several_inputs_and_large_pictures() -> None:
    keras = load_keras()
    two = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    with pytest.raises(UsageError) as caught:
        describe_own_model(keras.Model(two, keras.layers.Add()(two)))
    assert caught.value.code == "not-one-input"
    with pytest.raises(UsageError) as caught:
        describe_own_model(own_nets.net(conv, (5000, 8, 3)))
    assert caught.value.code == "bad-input-size"


# ------------------------------------------------------------ outputs

HEADS: dict[str, tuple[Callable[[Any, Any], Any], str, int | None]] = {
    "softmax": (lambda L, x: L.Dense(7, "softmax")(x), "probabilities", 7),  # noqa: N803
    "softmax layer": (lambda L, x: L.Softmax()(L.Dense(7)(x)), "probabilities", 7),  # noqa: N803
    "softmax activation": (lambda L, x: L.Activation("softmax")(L.Dense(7)(x)), "probabilities", 7),  # noqa: N803
    "softmax operation": (lambda L, x: load_keras().ops.softmax(L.Dense(7)(x)), "probabilities", 7),  # noqa: N803
    "reshaped": (lambda L, x: L.Flatten()(L.Reshape((1, 7))(L.Dense(7, "softmax")(x))), "probabilities", 7),  # noqa: N803
    "logits": (lambda L, x: L.Activation("linear")(L.Dropout(0.1)(L.Dense(7)(x))), "logits", 7),  # noqa: N803
    "convolved logits": (lambda L, x: L.Flatten()(L.Conv2D(7, 1)(L.Reshape((1, 1, 3))(x))), "logits", 7),  # noqa: N803
    "logits of a model": (lambda L, x: load_keras().Sequential([L.Dense(4, "relu"), L.Dense(7)])(x), "logits", 7),  # noqa: N803
    "one sigmoid": (lambda L, x: L.Dense(1, "sigmoid")(x), "binary", 2),  # noqa: N803
    "sigmoids": (lambda L, x: L.Dense(7, "sigmoid")(x), "probabilities", 7),  # noqa: N803
    "one number": (lambda L, x: L.Dense(1)(x), "features", None),  # noqa: N803
    "softmax of one": (lambda L, x: L.Dense(1, "softmax")(x), "features", None),  # noqa: N803
    "relu": (lambda L, x: L.Dense(7, "relu")(x), "features", None),  # noqa: N803
    "normalised": (lambda L, x: L.UnitNormalization()(L.Dense(7)(x)), "features", None),  # noqa: N803
    "pooled": (lambda L, x: x, "features", None),  # noqa: N803, ARG005
    "a map": (lambda L, x: L.Softmax()(L.Reshape((1, 1, 3))(x)), "features", None),  # noqa: N803
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_what_an_output_holds(name: str) -> None:
    keras = load_keras()
    head, kind, classes = HEADS[name]
    image = keras.Input((4, 4, 3))
    own = describe_own_model(keras.Model(image, head(keras.layers, keras.layers.GlobalAveragePooling2D()(image))))
    assert own.outputs[0].kind == kind
    assert own.classes == classes


def test_several_outputs_have_their_names_and_no_classes() -> None:
    keras = load_keras()
    image = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(image)
    outputs = [keras.layers.Dense(3, "softmax", name="a")(x), keras.layers.Dense(2, name="b")(x)]
    own = describe_own_model(keras.Model(image, outputs))
    assert [(output.name, output.shape, output.kind) for output in own.outputs] == [
        ("a", (3,), "probabilities"),
        ("b", (2,), "logits"),
    ]
    assert own.classes is None


def test_augmentations_are_named_and_do_nothing() -> None:
    model = own_nets.net(behind_augmentation)
    own = describe_own_model(model)
    assert len(own.augmentations) == 2
    images = own_nets.pictures(model)
    first = np.asarray(model(images, training=False))
    np.testing.assert_array_equal(model(images, training=False), first)
