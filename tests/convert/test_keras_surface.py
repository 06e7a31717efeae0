"""``scripts/sweep_keras.py`` knows every layer, operation and activation of the installed Keras."""

from __future__ import annotations

import inspect

from keras_surface import ACTIVATIONS, LAYERS, NOT_FOR_IMAGES, OPERATIONS

from xxdeploy.convert.keras_loader import load_keras


def test_every_layer_is_swept_or_named_with_a_reason() -> None:
    layers = load_keras().layers
    assert {name for name in dir(layers) if inspect.isclass(getattr(layers, name))} <= {*LAYERS, *NOT_FOR_IMAGES}


def test_every_operation_is_swept_or_named_with_a_reason() -> None:
    ops = load_keras().ops
    names = {name for name in dir(ops) if callable(getattr(ops, name))}
    names |= {f"image.{name}" for name in dir(ops.image) if callable(getattr(ops.image, name))}
    assert {name for name in names if not name.rsplit(".", 1)[-1].startswith("_")} <= {*OPERATIONS, *NOT_FOR_IMAGES}


def test_every_activation_is_swept() -> None:
    activations = load_keras().activations
    names = {name for name in dir(activations) if callable(getattr(activations, name)) and not name.startswith("_")}
    assert names - {"deserialize", "get", "serialize"} == set(ACTIVATIONS)
