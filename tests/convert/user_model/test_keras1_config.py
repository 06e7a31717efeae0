"""Configurations of Keras 1 and of models without an input layer. Whole files: ``test_files_of_keras2``."""

from __future__ import annotations

from typing import Any

import pytest
from codes import code_of

from xxdeploy.convert.user_model.keras1_config import is_keras_1, keras2_from_keras1, with_input_layers

SHAPE = [None, 12, 12, 3]


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": kind.lower(), **config}}


def test_only_options_of_keras_1_tell_it() -> None:
    assert is_keras_1([layer("Dense", W_regularizer=None)])
    assert not is_keras_1(layer("Conv2D", filters=3, padding="same"))


@pytest.mark.parametrize("key", ["batch_input_shape", "batch_shape"])
def test_the_first_layer_gives_its_shape_to_an_input_layer(key: str) -> None:
    first = layer("Conv2D", **{key: SHAPE})
    for inner in ([first], {"name": "s", "layers": [first]}):
        made = with_input_layers({"class_name": "Sequential", "config": inner})
        start, second = made["config"]["layers"]
        assert start["class_name"] == "InputLayer"
        assert start["config"]["batch_input_shape"] == SHAPE
        assert second == first


def test_a_model_as_first_layer_and_a_model_with_an_input_layer() -> None:
    inner = {
        "class_name": "Sequential",
        "config": {"name": "inner", "layers": [layer("Conv2D", batch_input_shape=SHAPE)]},
    }
    made = with_input_layers(
        {"class_name": "Sequential", "config": {"name": "outer", "layers": [inner, layer("ReLU")]}}
    )
    kinds = [each["class_name"] for each in made["config"]["layers"]]
    assert kinds == ["InputLayer", "Sequential", "ReLU"]
    assert with_input_layers(made) == made


def test_words_of_keras_1() -> None:
    old = layer("Convolution2D", nb_filter=8, nb_row=3, nb_col=5, border_mode="same", subsample=[2, 2], bias=False)
    new = keras2_from_keras1(old)
    assert new["class_name"] == "Conv2D"
    expected = {"filters": 8, "kernel_size": [3, 5], "padding": "same", "strides": [2, 2], "use_bias": False}
    assert new["config"] == {"name": "convolution2d", **expected}
    pads = keras2_from_keras1(layer("ZeroPadding2D", padding=[1, 2, 3, 4], dim_ordering="tf"))
    assert pads["config"]["padding"] == [[1, 2], [3, 4]]
    merge = keras2_from_keras1(layer("Merge", mode="concat", concat_axis=-1))
    assert (merge["class_name"], merge["config"]["axis"]) == ("Concatenate", -1)


def test_recurrent_layers_of_keras_1() -> None:
    old = layer("LSTM", output_dim=3, inner_activation="hard_sigmoid", inner_init="orthogonal", dropout_U=0.1)
    old["config"] |= {"forget_bias_init": "one", "consume_less": "gpu", "input_length": 6, "unroll": False}
    old["config"]["W_regularizer"] = {"name": "WeightRegularizer", "l1": 0.0, "l2": 1e-4}
    expected = {"units": 3, "recurrent_activation": "hard_sigmoid", "recurrent_dropout": 0.1, "unroll": False}
    expected["recurrent_initializer"] = "glorot_uniform"  # of training only
    assert keras2_from_keras1(old)["config"] == {"name": "lstm", **expected}


@pytest.mark.parametrize(
    "old",
    [
        layer("Convolution2D", dim_ordering="th"),
        layer("Deconvolution2D", dim_ordering="tf"),
        layer("BatchNormalization", mode=2),
        layer("Merge", mode="cos"),
        layer("MaxoutDense", output_dim=3),
    ],
)
def test_what_is_not_certain_is_refused(old: dict[str, Any]) -> None:
    assert code_of(keras2_from_keras1, old) == "keras-1-layer"
