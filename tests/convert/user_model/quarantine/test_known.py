"""The list of what a model file may name, beside the Keras that is installed."""

from __future__ import annotations

import importlib

import pytest

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.quarantine import known

ABSENT = {"Policy", "RandomHeight", "RandomWidth"}
"""Names of Keras 2."""
REFUSED = [
    "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup",
    "TextVectorization", "Discretization", "Hashing", "HashedCrossing", "Wrapper", "Layer",
]  # fmt: skip


def test_every_name_is_one_of_keras() -> None:
    keras = load_keras()
    from keras.src.applications import convnext

    places = (
        (known.LAYERS, keras.layers),
        (known.INITIALIZERS, keras.initializers),
        (known.MODELS - {"Functional"}, keras),
        (known.ACTIVATIONS, keras.activations),
        (known.CONVNEXT, convnext),
    )
    for names, module in places:
        assert {name for name in names - ABSENT if not hasattr(module, name)} == set()
    others = (keras.regularizers, keras.constraints, keras.dtype_policies)
    assert {name for name in known.OTHERS - ABSENT if not any(hasattr(module, name) for module in others)} == set()


@pytest.mark.parametrize("place", known.OPERATIONS)
def test_every_operation_computes_and_takes_no_function(place: str) -> None:
    load_keras()
    module = importlib.import_module(f"keras.src.ops.{place}")
    for name in known.OPERATIONS[place]:
        kind = getattr(module, name)
        assert issubclass(kind, importlib.import_module("keras.src.ops.operation").Operation)
        assert known.is_known(name, f"keras.src.ops.{place}")
        assert not known.is_known(name, "keras.src.ops.other")


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("module", ["keras.layers", "keras", "keras.src.layers.core", None])
def test_layers_that_do_more_than_compute_are_not_on_it(name: str, module: str | None) -> None:
    assert not known.is_known(name, module)


@pytest.mark.parametrize(
    "module", ["keras.utils", "keras.config", "kerasx.layers", "os", "", "keras.src.ops", "keras.saving", "layers"]
)
def test_a_good_name_in_a_bad_place(module: str) -> None:
    assert not known.is_known("Dense", module)
