"""The inputs of a user's model: their order and names, pictures and arrays, and the options of each."""

import re
from typing import Any

import numpy as np
import pytest
import user_nets

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.convert.user_model.inputs import Asked, UserInput, names_in_manifest, read_inputs
from xxdeploy.convert.user_model.prepare import prepare_model
from xxdeploy.convert.user_model.preprocessing import choose_preprocess
from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput, SeveralInputs, pack

RANDOM = np.random.default_rng(0)


def siamese(make: Any = list, end: str = "softmax", names: tuple[str, str] = ("left", "right")) -> Any:
    """Two pictures through one backbone with batch normalization; ``make`` makes the structure of the inputs."""
    keras, layers = load_keras(), load_keras().layers
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False, name="conv")(image))
    backbone = keras.Model(image, layers.GlobalAveragePooling2D()(layers.ReLU()(x)), name="backbone")
    inputs = [keras.Input((8, 8, 3), name=name) for name in names]
    both = layers.Concatenate()([backbone(each) for each in inputs])
    given = dict(zip(names, inputs, strict=True)) if make is dict else make(inputs)
    return user_nets.shaken(keras.Model(given, layers.Dense(3, end, name="head")(both), name="pair"))


def agree(model: Any, inputs: tuple[str, ...], rows: np.ndarray) -> Any:
    """Convert and optimize a prepared model, compare it with Keras, and return the graph."""
    graph = optimize(onnx_from_keras(model, inputs=inputs))[0]
    answers = open_session(graph, name="onnx").run(rows)
    runner = KerasRunner(model)
    assert np.abs(answers - runner.run(rows)).max() < 1e-5
    assert np.abs(answers - runner.exact([rows])["output"]).max() < 1e-5
    return graph


@pytest.mark.parametrize("make", [list, tuple, dict])
def test_a_siamese_network_keeps_order_names_and_one_set_of_weights(make: Any) -> None:
    prepared = prepare_model(siamese(make))
    assert prepared.inputs == ("left", "right")
    pictures = [RANDOM.uniform(0, 1, (3, 8, 8, 3)).astype(np.float32) for _ in "ab"]
    graph = agree(prepared.model, prepared.inputs, pack(pictures))
    assert [array.shape for array in graph.split()[1].values() if array.ndim == 4] == [(4, 3, 3, 3)]
    expected = siamese()(pictures, training=False)
    assert np.abs(KerasRunner(prepared.model).run(pack(pictures)) - expected).max() < 1e-6


def test_a_dictionary_has_the_order_of_keras() -> None:
    model = siamese(dict, names=("b", "a"))  # Keras sorts keys
    prepared = prepare_model(model)
    assert prepared.inputs == ("a", "b")
    first, second = (RANDOM.uniform(0, 1, (2, 8, 8, 3)).astype(np.float32) for _ in "ab")
    expected = model({"a": first, "b": second}, training=False)
    assert np.abs(KerasRunner(prepared.model).run(pack([first, second])) - expected).max() < 1e-6


def test_a_picture_and_numbers() -> None:
    keras, layers = load_keras(), load_keras().layers
    photo, meta = keras.Input((8, 8, 3), name="photo"), keras.Input((4,), name="meta data")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(photo)))
    x = layers.Concatenate()([x, layers.Dense(3, "relu")(meta)])
    model = user_nets.shaken(keras.Model([photo, meta], layers.Dense(3, "softmax")(x)))
    prepared = prepare_model(model)
    assert prepared.inputs == ("photo", "meta-data")
    form, notes = choose_preprocess(prepared.described, None)
    assert form == SeveralInputs((("photo", Preprocess(8, 8, 3, "none")), ("meta-data", ArrayInput((4,)))))
    assert "scales pixels of photo itself" in notes[0]
    agree(prepared.model, prepared.inputs, form.batch([(np.zeros((8, 8, 3), np.uint8), [1, 2, 3, 4])]))
    with pytest.raises(UsageError, match="meta-data") as caught:
        choose_preprocess(prepared.described, "meta-data=tf")
    assert caught.value.code == "preprocess-names"


def test_a_gray_picture_without_channels_gets_them() -> None:
    keras, layers = load_keras(), load_keras().layers
    image = keras.Input((8, 6), name="digit")
    model = user_nets.shaken(keras.Model(image, layers.Dense(3, "softmax")(layers.Flatten()(image))))
    prepared = prepare_model(model)
    assert prepared.inputs == ("image",)
    assert choose_preprocess(prepared.described, "tf")[0] == Preprocess(8, 6, 1, "tf")
    pictures = RANDOM.uniform(0, 1, (2, 8, 6, 1)).astype(np.float32)
    agree(prepared.model, prepared.inputs, pictures)
    assert np.abs(KerasRunner(prepared.model).run(pictures) - model(pictures[..., 0])).max() < 1e-6
    as_array = prepare_model(model, asked=Asked("array"))
    assert (as_array.inputs, as_array.model.input_shape) == (("digit",), (None, 8, 6))
    assert choose_preprocess(as_array.described, "array")[0] == ArrayInput((8, 6))


@pytest.mark.parametrize("shape", [(5,), (7, 7, 16), (4, 4, 4, 2)])
def test_an_array_alone(shape: tuple[int, ...]) -> None:
    keras, layers = load_keras(), load_keras().layers
    features = keras.Input(shape, name="features")
    model = user_nets.shaken(keras.Model(features, layers.Dense(3, "softmax")(layers.Flatten()(features))))
    prepared = prepare_model(model)
    assert prepared.inputs == ("features",)
    assert choose_preprocess(prepared.described, None)[0] == choose_preprocess(prepared.described, "array")[0]
    assert choose_preprocess(prepared.described, None)[0] == ArrayInput(shape)
    with pytest.raises(UsageError, match=re.escape(f"features {shape}")) as caught:
        choose_preprocess(prepared.described, "tf")  # of pictures: without effect here
    assert caught.value.code == "preprocess-names"
    agree(prepared.model, prepared.inputs, RANDOM.normal(size=(2, *shape)).astype(np.float32))


def test_an_input_that_no_output_needs_is_left_out() -> None:
    keras, layers = load_keras(), load_keras().layers
    image, labels = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="labels")
    model = user_nets.shaken(keras.Model([image, labels], layers.Dense(3, "softmax")(layers.Flatten()(image))))
    prepared = prepare_model(model)
    assert prepared.inputs == ("image",)
    assert any("inputs labels" in note for note in prepared.notes)
    agree(prepared.model, prepared.inputs, RANDOM.uniform(0, 1, (2, 8, 8, 3)).astype(np.float32))


def test_an_inner_layer_of_one_branch() -> None:
    prepared = prepare_model(siamese(), output_layer="head")
    assert prepared.inputs == ("left", "right")
    with pytest.raises(UsageError) as caught:  # the backbone is called twice
        prepare_model(siamese(), output_layer="backbone")
    assert caught.value.code == "shared-layer"


def test_the_number_of_names() -> None:
    with pytest.raises(ConversionError) as caught:
        onnx_from_keras(siamese())
    assert caught.value.code == "input-names"
    with pytest.raises(ConversionError) as caught:
        KerasRunner(siamese(), outputs=("a", "b"))
    assert caught.value.code == "output-names"
    with pytest.raises(ConversionError) as caught:
        KerasRunner(siamese()).run(np.zeros((1, 383), np.float32))
    assert caught.value.code == "wrong-batch"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (None, Asked()),
        ("tf", Asked("tf")),
        ("my,file.toml", Asked("my,file.toml")),
        ("left=tf,right=none", Asked(None, {"left": "tf", "right": "none"})),
        ("torch, meta = array", Asked("torch", {"meta": "array"})),
    ],
)
def test_what_is_asked(text: str | None, asked: Asked) -> None:
    assert Asked.read(text) == asked


@pytest.mark.parametrize("text", ["left=tf,left=none", "tf,caffe,left=none", "left=", "=tf", "left=tf,,"])
def test_what_cannot_be_asked(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Asked.read(text)
    assert caught.value.code == "preprocess-names"


def read(*shapes: tuple[int | None, ...], asked: str | None = None) -> tuple[UserInput, ...]:
    named = [(f"x{index}", (None, *shape)) for index, shape in enumerate(shapes)]
    return read_inputs("net", named, Asked.read(asked), lambda: None)


def test_pictures_and_arrays() -> None:
    inputs = read((8, 8, 3), (8, 8), (8, 8, 4), (5,), (8, 8, 1), asked="x4=array")
    assert [each.is_picture for each in inputs] == [True, True, False, False, False]
    assert inputs[1].shape == (8, 8, 1)


@pytest.mark.parametrize(
    ("shapes", "asked", "code"),
    [
        ((), None, "no-input"),
        (((3, 8, 8),), None, "not-an-image"),
        (((None, None, 3),), None, "input-size-missing"),
        (((8, 8, 3), (None,)), None, "input-size-missing"),
        (((5000, 8, 3),), None, "bad-input-size"),
        (((8, 8, 3),), "left=tf", "preprocess-names"),
    ],
)
def test_inputs_that_cannot_be_read(shapes: Any, asked: str | None, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*shapes, asked=asked)
    assert caught.value.code == code


def test_the_hint_for_channels_first_works() -> None:
    with pytest.raises(UsageError) as caught:
        read((3, 8, 8))
    assert "--preprocess array" in caught.value.hint
    assert read((3, 8, 8), asked="array")[0] == UserInput("x0", (3, 8, 8), is_picture=False)


def test_the_scaling_of_one_of_two_pictures_is_unknown() -> None:
    described = prepare_model(siamese()).described
    with pytest.raises(UsageError, match="input right") as caught:
        choose_preprocess(described, "left=tf")
    assert caught.value.code == "preprocess-unknown"
    form, _ = choose_preprocess(described, "left=tf,right=none")
    assert [part.to_json()["mode"] for _, part in form.parts] == ["tf", "none"]  # type: ignore[union-attr]


def test_names_that_a_manifest_allows() -> None:
    assert names_in_manifest(["a b", "A-b", "ü", "", "left"], ["Left"]) == (
        "a-b",
        "A-b_2",
        "unnamed",
        "unnamed_2",
        "left_2",
    )


def test_an_input_keeps_its_name_where_the_output_would_have_the_same() -> None:
    prepared = prepare_model(siamese(names=("Probabilities", "right")))
    assert prepared.inputs == ("Probabilities", "right")
    assert [output.name for output in prepared.outputs] == ["probabilities_2"]
