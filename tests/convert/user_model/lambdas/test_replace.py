"""Lambda layers of known forms are replaced in files of Keras 3, give the same numbers, and are noted."""

from __future__ import annotations

import base64
import marshal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lambda_sources import PAIRS, SOURCES, bytecodes, function
from user_nets import saved

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.lambdas.marshal_code import UnknownCodeError
from xxdeploy.convert.user_model.lambdas.replace import translated, without_lambdas
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.preprocessing import scaling_inside

IMAGES = np.random.default_rng(0).normal(0, 2, (2, 8, 8, 4)).astype(np.float32)


def layer(name: str = "scale", **config: Any) -> dict[str, Any]:
    code = base64.b64encode(bytecodes(name)["3.10.2"]).decode()
    inner = {"name": "own", "function": [code, None, None], "arguments": {}, **config}
    return {"class_name": "Lambda", "config": inner}


@pytest.fixture(scope="module")
def network() -> Any:
    """A model of Keras 3 with each function as a Lambda layer."""
    import tensorflow as tf
    from keras.src.legacy import backend  # what keras.backend was before Keras 3

    keras = load_keras()
    image = keras.Input((8, 8, 4))
    one, two = (keras.layers.Conv2D(4, 1, name=name)(image) for name in ("one", "two"))
    outputs = []
    for texts, given in ((SOURCES, one), (PAIRS, [one, two])):
        for text in texts.values():
            if text.startswith("def"):
                continue  # Keras 3 stores the name of a function, and the bytecode of a lambda only
            called = function(text, tf, backend)
            example = keras.ops.zeros((2, 8, 8, 4))
            shape = tuple(called([example, example] if isinstance(given, list) else example).shape[1:])
            outputs.append(keras.layers.Flatten()(keras.layers.Lambda(called, output_shape=shape)(given)))
    return keras.Model(image, keras.layers.Concatenate()(outputs))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_numbers_are_those_of_the_lambda_layers(network: Any, tmp_path: Path, suffix: str) -> None:
    loaded = load_model_file(saved(network, tmp_path / f"a.{suffix}"))
    assert not any(type(each).__name__ == "Lambda" for each in loaded.model.layers)
    assert np.abs(np.asarray(loaded.model(IMAGES)) - np.asarray(network(IMAGES))).max() < 1e-5
    assert "the Lambda layer 'lambda_1' was translated: (x / 127.5) - 1" in loaded.notes


def test_a_sequential_model_that_scales_its_input(tmp_path: Path) -> None:
    keras = load_keras()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Lambda(lambda x: x[..., ::-1] / 127.5 - 1.0, name="scaling"),
            keras.layers.Conv2D(3, 3),
        ]
    )
    loaded = load_model_file(saved(model, tmp_path / "a.keras")).model
    assert scaling_inside(loaded, loaded.inputs[0]) == ("scaling",)
    assert np.abs(np.asarray(loaded(IMAGES[..., :3])) - np.asarray(model(IMAGES[..., :3]))).max() < 1e-6


def test_the_replacement_is_a_layer_of_keras_where_one_fits() -> None:
    kinds = {name: without_lambdas(layer(name), "2.11.0")[0]["class_name"] for name in ("scale", "relu6", "crop")}
    assert kinds == {"scale": "Rescaling", "relu6": "Activation", "crop": "TranslatedLambda"}
    scaled, notes = without_lambdas([layer("scale and shift")], "2.11.0")
    assert (scaled[0]["config"]["scale"], scaled[0]["config"]["offset"]) == (1 / 127.5, -1.0)
    assert notes == ("the Lambda layer 'own' was translated: (x / 127.5) - 1",)


def test_functions_by_name_and_those_of_the_user() -> None:
    given = {"class_name": "function", "config": "relu6", "module": "builtins"}
    for own in (layer(function="relu6", module="tensorflow.python.ops.gen_nn_ops"), layer(function=given)):
        assert without_lambdas(own, "2.11.0")[0]["config"]["activation"] == "relu6"
    assert without_lambdas(layer(function="relu6"), "2.11.0", custom={"relu6"})[0]["class_name"] == "Lambda"


def test_bytes_as_keras_1_escaped_them() -> None:
    code = bytecodes("scale")["3.10.2"].decode("latin-1").encode("raw_unicode_escape").decode("latin-1")
    assert without_lambdas(layer(function=[code, None, None]), "1.2.2")[0]["class_name"] == "Rescaling"


@pytest.mark.parametrize(
    ("config", "version", "reason"),
    [
        ({"mask": [1, 2, 3]}, "2.11.0", "mask"),
        ({"arguments": {"y": {}}}, "2.11.0", "captured"),
        ({"function": ["A" * 1_000_000, None, None]}, "2.11.0", "cannot be read"),
        ({"function": ["AAAA", None, None]}, "2.11.0", "cannot be read"),
        ({"function": 3}, "2.11.0", "calls"),
        ({"function": None}, "2.11.0", "calls"),
        ({"function": {"class_name": "__lambda__", "config": 3}}, "3.1.0", "calls"),
        ({"function": [base64.b64encode(marshal.dumps(3)).decode(), None, None]}, "2.11.0", "cannot be read"),
    ],
)
def test_what_stays_refused(config: dict[str, Any], version: str, reason: str) -> None:
    with pytest.raises(UnknownCodeError, match=reason):
        translated(layer(**config), version)
    assert without_lambdas(layer(**config), version) == (layer(**config), ())


@pytest.mark.parametrize(
    ("version", "known"), [("2.2.4-tf", False), ("2.3.1", False), (None, False), ("2.3.0-tf", True)]
)
def test_a_resize_of_tensorflow_1_is_refused(version: str | None, known: bool) -> None:
    assert (without_lambdas(layer("resize"), version)[0]["class_name"] != "Lambda") == known


def test_calls_with_more_than_the_input() -> None:
    nodes: tuple[Any, ...] = (
        {"args": [{}, {}], "kwargs": {}},
        {"args": [{}], "kwargs": {"y": 1}},
        [["a", 0, 0, {"y": 1}]],
    )
    for node in nodes:
        with pytest.raises(UnknownCodeError, match="more than its input"):
            translated({**layer(), "inbound_nodes": [node]}, "2.11.0")
    called = {**layer(), "inbound_nodes": [[["a", 0, 0, {}]], [["a", 0, 0, {}], ["b", 0, 0, {}]]]}
    with pytest.raises(UnknownCodeError, match="different inputs"):
        translated(called, "2.11.0")
