"""Every name of the installed Keras is known, or refused for a reason of its own."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.quarantine.check import check_classes
from xxdeploy.convert.user_model.quarantine.known import is_known
from xxdeploy.convert.user_model.quarantine.refused import reason_for
from xxdeploy.errors import UsageError

OWN_ANSWER = {"Lambda"}
"""Has an error code of its own."""


def classes() -> Iterator[tuple[str, str]]:
    """Yield the name and the module, as a file has them, of each layer, operation and part of the installed Keras."""
    keras = load_keras()
    for place in ("layers", "initializers", "regularizers", "constraints", "dtype_policies"):
        home = getattr(keras, place)
        for name in (name for name in dir(home) if inspect.isclass(getattr(home, name))):
            yield getattr(home, name).__name__, f"keras.{place}"
    operations = importlib.import_module("keras.src.ops")
    operation = importlib.import_module("keras.src.ops.operation").Operation
    for found in pkgutil.iter_modules(operations.__path__):
        if not found.name.endswith("_test"):
            module = importlib.import_module(f"keras.src.ops.{found.name}")
            for name, kind in vars(module).items():
                if inspect.isclass(kind) and issubclass(kind, operation) and kind.__module__ == module.__name__:
                    yield name, module.__name__


def refusal(name: str, module: str | None) -> UsageError:
    item = {"class_name": name, "module": module, "config": {"name": "own"}}
    with pytest.raises(UsageError) as caught:
        check_classes(item, Path("model.keras"), custom=(), unsafe_lambda=False)
    return caught.value


def test_each_name_of_keras_is_known_or_has_a_reason() -> None:
    named = set(classes())
    assert len(named) > 300
    for name, module in named:
        if name not in OWN_ANSWER and not is_known(name, module):
            reason = reason_for(name)
            assert reason, name
            for error in (refusal(name, module), refusal(name, None)) if not is_known(name, None) else ():
                assert (error.code, reason in error.message) == ("unsupported-layer", True)


def test_no_name_that_is_known_has_a_reason() -> None:
    both = {name for name, module in classes() if is_known(name, module) and reason_for(name)}
    assert both <= {"BinaryCrossentropy"}


def test_a_name_that_keras_does_not_have() -> None:
    error = refusal("Swish2", None)
    assert error.code == "custom-object"
    assert "--custom-objects MODULE:Swish2" in str(error.hint)
    assert "xxdeploy does not know" in refusal("OfNextYear", "keras.layers").message


def test_the_part_before_a_refused_layer_exports(tmp_path: Path) -> None:
    keras = load_keras()
    image = keras.Input((6, 6, 3))
    before = keras.layers.Conv2D(2, 3, name="kept")(image)
    whole: Any = keras.Model(image, keras.layers.Masking(name="mask")(before))
    whole.save(tmp_path / "whole.keras")
    with pytest.raises(UsageError) as caught:
        load_model_file(tmp_path / "whole.keras")
    assert "passes a mask" in caught.value.message
    assert "keras.Model(model.input, model.get_layer(NAME).output)" in str(caught.value.hint)
    keras.Model(whole.input, whole.get_layer("kept").output).save(tmp_path / "part.keras")
    assert load_model_file(tmp_path / "part.keras").model.output_shape == (None, 4, 4, 2)
