"""Options of other versions, and layers that the model calls as in training."""

from __future__ import annotations

from typing import Any

import pytest
from codes import code_of

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.layer_options import in_inference_mode, refuse_training_mode, without_unknown_options


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": "own", **config}}


@pytest.mark.parametrize(
    "given",
    [
        layer("RandomRotation", factor=0.2, value_range=[0, 255], of_next_year=7),
        layer("Conv2D", filters=3, kernel_size=3, quantization_config=None),
        layer("BatchNormalization", fused=True, adjustment=None, of_next_year_momentum=0.9),
        layer("DepthwiseConv2D", kernel_size=3, groups=1, kernel_constraint={"class_name": "MaxNorm"}),
    ],
)
def test_options_without_effect_are_dropped_with_a_note(given: dict[str, Any]) -> None:
    keras = load_keras()
    (note,) = without_unknown_options(given, keras)
    assert given["class_name"] in note
    getattr(keras.layers, given["class_name"]).from_config(given["config"])  # Keras takes the rest


@pytest.mark.parametrize("given", [layer("RandomShear", x_factor=[-0.2, 0.2]), layer("RandomHeight", factor=0.3)])
def test_an_augmentation_that_keras_cannot_build_is_the_identity(given: dict[str, Any]) -> None:
    (note,) = without_unknown_options(given, load_keras())
    assert "factor" in note
    assert (given["class_name"], given["config"]) == ("Identity", {"name": "own"})


@pytest.mark.parametrize(
    "given",
    [
        layer("Conv2D", filters=4, kernel_size=3, shear=2),
        layer("BatchNormalization", of_next_year=True),
        layer("DepthwiseConv2D", kernel_size=3, groups=2),
    ],
)
def test_options_that_may_change_the_result_are_refused_by_name(given: dict[str, Any]) -> None:
    assert code_of(without_unknown_options, given, load_keras()) == "layer-option"


def test_options_of_today_stay() -> None:
    given = layer("Conv2D", filters=4, kernel_size=3, groups=2, dtype="float32", activity_regularizer=None)
    before = dict(given["config"])
    assert without_unknown_options(given, load_keras()) == ()
    assert given["config"] == before


def called(kind: str, **call: Any) -> dict[str, Any]:
    return {**layer(kind), "inbound_nodes": [{"args": [], "kwargs": call}]}


@pytest.mark.parametrize("kind", ["Dropout", "BatchNormalization", "Functional"])
def test_training_mode(kind: str) -> None:
    config = {"layers": [called(kind, training=True)]}
    assert code_of(refuse_training_mode, config) == "training-mode"
    (note,) = in_inference_mode(config)
    assert "own" in note
    refuse_training_mode(config)


def test_inference_mode_of_a_model_that_does_not_need_it() -> None:
    config = {"layers": [called("Dropout", training=False), called("Dropout")]}
    refuse_training_mode(config)
    assert in_inference_mode(config) == ()
