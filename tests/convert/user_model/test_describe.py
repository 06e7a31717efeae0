"""What a model takes and gives, read from its layers: sizes, scaling, outputs, family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import user_nets

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.describe import describe_model, family_of
from xxdeploy.errors import UsageError


def conv(layers: Any, x: Any) -> Any:
    return layers.Conv2D(4, 3, name="conv")(x)


def resized(layers: Any, x: Any) -> Any:
    return conv(layers, layers.Resizing(8, 8)(layers.RandomFlip()(x)))


def test_resnets_of_pytorch_are_told_apart() -> None:
    from xxdeploy.models.resnet import resnet18

    described = describe_model(resnet18(weights=None, input_shape=(32, 32, 3), classes=4))
    assert described.likely == "torch"


def test_sizes_channels_and_batch() -> None:
    described = describe_model(user_nets.net(conv, (20, 24, 1)))
    assert (described.height, described.width, described.channels, described.batch) == (20, 24, 1, None)
    keras = load_keras()
    image = keras.Input(batch_shape=(8, 9, 9, 3))
    assert describe_model(keras.Model(image, keras.layers.Flatten()(image))).batch == 8


def test_pictures_of_any_size_need_one() -> None:
    with pytest.raises(UsageError, match="any size") as caught:
        describe_model(user_nets.net(conv, (None, None, 3)))  # type: ignore[arg-type]
    assert (caught.value.code, "--input-size N" in caught.value.hint) == ("input-size-missing", True)
    with pytest.raises(UsageError) as caught:
        describe_model(user_nets.net(resized, (None, None, 3)))  # type: ignore[arg-type]
    assert "--input-size 8" in caught.value.hint


@pytest.mark.parametrize(
    ("title", "options", "size"),
    [
        ("MobileNetV3Small", {}, 224),
        ("MobileNetV3Large-Minimalistic", {"minimalistic": True}, 224),
        ("EfficientNetB1", {}, 240),
        ("EfficientNetB2", {}, 260),
        ("EfficientNetB4", {}, 380),
        ("EfficientNetV2B0", {}, 224),
        ("EfficientNetV2S", {}, 384),
        ("ConvNeXtTiny", {}, 224),
        ("ConvNeXtSmall", {}, 224),
    ],
)
def test_networks_that_scale_pixels_themselves_are_known_with_their_size(
    title: str, options: dict[str, bool], size: int
) -> None:
    """The trunk of a model of the user's own, which takes images of any size."""
    from keras.src.backend.common import global_state

    keras = load_keras()
    with keras.StatelessScope(initialize_variables=False):  # shapes without values
        build = getattr(keras.applications, title.partition("-")[0])
        trunk = build(weights=None, include_top=False, input_shape=(None, None, 3), **options)
        model = keras.Model(trunk.input, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(trunk.output)))
    global_state.set_global_attribute("uninitialized_variables", [])
    spec = family_of(model)
    assert spec is not None
    assert spec.title == title
    with pytest.raises(UsageError) as caught:
        describe_model(model)
    assert caught.value.code == "input-size-missing"
    assert f"{title}, whose usual size is {size}" in caught.value.hint


@pytest.mark.parametrize("shape", [(4, 4, 4), (4,), (4, 4, 4, 3)])
def test_inputs_that_are_no_pictures(shape: tuple[int, ...]) -> None:
    keras = load_keras()
    image = keras.Input(shape)
    described = describe_model(keras.Model(image, keras.layers.Flatten()(image)))
    assert [(each.shape, each.is_picture) for each in described.inputs] == [(shape, False)]


def test_channels_first_are_refused() -> None:
    keras = load_keras()
    image = keras.Input((3, 8, 8))
    with pytest.raises(UsageError) as caught:
        describe_model(keras.Model(image, keras.layers.Flatten()(image)))
    assert caught.value.code == "not-an-image"
    assert "channels_last" in caught.value.hint


def test_several_inputs_and_large_pictures() -> None:
    keras = load_keras()
    two = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    described = describe_model(keras.Model(two, keras.layers.Add()(two)))
    assert [each.shape for each in described.inputs] == [(4, 4, 3)] * 2
    with pytest.raises(UsageError) as caught:
        _ = described.height
    assert caught.value.code == "not-one-picture"
    with pytest.raises(UsageError) as caught:
        describe_model(user_nets.net(conv, (5000, 8, 3)))
    assert caught.value.code == "bad-input-size"


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
    described = describe_model(keras.Model(image, head(keras.layers, keras.layers.GlobalAveragePooling2D()(image))))
    assert described.outputs[0].kind == kind
    assert described.classes == classes


def test_several_outputs_have_their_names_and_no_classes() -> None:
    keras = load_keras()
    image = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(image)
    outputs = [keras.layers.Dense(3, "softmax", name="a")(x), keras.layers.Dense(2, name="b")(x)]
    described = describe_model(keras.Model(image, outputs))
    assert [(output.name, output.shape, output.kind) for output in described.outputs] == [
        ("a", (3,), "probabilities"),
        ("b", (2,), "logits"),
    ]
    assert described.classes is None
