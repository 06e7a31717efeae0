from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import user_nets
from codes import code_of
from user_nets import net, saved

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file

FORMATS = ["own.keras", "own.h5"]


@pytest.mark.parametrize("name", FORMATS)
def test_custom_objects_are_imported_when_named_and_only_then(tmp_path: Path, user_module: str, name: str) -> None:
    sys.path.insert(0, str(tmp_path))
    own = __import__(user_module)
    sys.path.remove(str(tmp_path))

    def body(layers: Any, x: Any) -> Any:
        x = own.Plain()(own.Double()(layers.Conv2D(4, 3, activation=own.cube)(x)))
        return layers.Lambda(own.cube)(layers.Activation(own.cube)(x))

    model = net(body)
    images = user_nets.pictures(model, largest=0.5)
    expected = np.asarray(model(images))
    path = saved(model, tmp_path / name)
    marker = tmp_path / f"{user_module}.imported"
    marker.unlink()
    del sys.modules[user_module]
    load_keras().saving.get_custom_objects().clear()
    assert code_of(load_model_file, path) == "lambda-layer"
    assert code_of(load_model_file, path, custom_objects=[f"{user_module}:cube"]) == "custom-object"
    assert not marker.exists()
    given = [f"{user_module}:{name}" for name in ("Double", "Plain", "cube")]
    loaded = load_model_file(path, custom_objects=given).model
    assert marker.exists()
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)


@pytest.mark.parametrize("given", ["layers", "layers.Swish", ":Swish", "layers:", "a b:c", "../x:y", "os:system:x"])
def test_custom_objects_are_written_with_a_colon(tmp_path: Path, given: str) -> None:
    path = saved(net(lambda _, x: x), tmp_path / "own.keras")
    assert code_of(load_model_file, path, custom_objects=[given]) == "bad-custom-objects"


@pytest.mark.parametrize("given", ["no_such_module:X", "json:no_such_name"])
def test_custom_objects_that_are_not_there(tmp_path: Path, given: str) -> None:
    path = saved(net(lambda _, x: x), tmp_path / "own.keras")
    assert code_of(load_model_file, path, custom_objects=[given]) == "bad-custom-objects"
