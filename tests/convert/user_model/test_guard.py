from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codes import code_of
from user_nets import net, saved

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file


def rewritten(path: Path, change: Any) -> Path:
    """Change the configuration in a ``.keras`` file."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else data)
    return path


@pytest.mark.parametrize("change", [{"units": 10_000_000_000}, {"units": 3_000_000}, {"units": 4}, {"units": -1}])
def test_a_configuration_that_asks_for_other_weights(tmp_path: Path, change: dict[str, int]) -> None:
    path = saved(net(lambda layers, x: layers.Conv2D(4, 3)(x)), tmp_path / "own.keras")
    rewritten(path, lambda config: config["config"]["layers"][-1]["config"].update(change))
    assert code_of(load_model_file, path) == ("build-failed" if change["units"] < 0 else "weights-mismatch")


@pytest.mark.parametrize("kind", ["max", "average"])
def test_a_file_with_adaptive_pooling(tmp_path: Path, kind: str) -> None:
    """Keras 3.15 cannot read its own file: it writes the size as a list and adds it to a tuple."""
    keras = load_keras()
    image = keras.Input((12, 12, 3))
    pooled = getattr(keras.ops, f"adaptive_{kind}_pool")(image, (3, 2), data_format="channels_last")
    model = keras.Model(image, pooled)
    loaded = load_model_file(saved(model, tmp_path / "own.keras")).model
    batch = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded(batch), model(batch))


def test_pictures_that_fill_the_memory(tmp_path: Path) -> None:
    path = saved(net(lambda layers, x: layers.UpSampling2D(2)(layers.Conv2D(4, 3)(x))), tmp_path / "own.keras")

    def enlarge(config: dict[str, Any]) -> None:
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "UpSampling2D")
        layer["config"]["size"] = [100_000, 100_000]

    assert code_of(load_model_file, rewritten(path, enlarge)) == "activations-too-large"


def test_an_operation_that_repeats_a_tensor_too_often(tmp_path: Path) -> None:
    path = saved(net(lambda _, x: load_keras().ops.tile(x, (1, 2, 2, 1))), tmp_path / "own.keras")

    def enlarge(config: dict[str, Any]) -> None:
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Tile")
        layer["config"]["repeats"] = [1, 1 << 20, 1 << 20, 1]

    assert code_of(load_model_file, rewritten(path, enlarge)) == "activations-too-large"
