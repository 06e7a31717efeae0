"""The user's own file into a model: both formats, custom objects, Lambda layers, number formats, sizes, limits."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import user_nets
from codes import code_of
from user_nets import net, saved

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.errors import ConversionError, UsageError

FORMATS = ["own.keras", "own.h5"]


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


@pytest.mark.parametrize("name", FORMATS)
def test_a_trained_model_comes_back_exactly(tmp_path: Path, name: str) -> None:
    keras = load_keras()
    model = net(lambda layers, x: layers.BatchNormalization()(layers.Conv2D(4, 3)(layers.RandomFlip()(x))))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = user_nets.pictures(model, 4)
    model.fit(images / 255, np.arange(4), epochs=1, verbose=0)
    loaded = load_model_file(saved(model, tmp_path / name))
    assert loaded.notes == ()
    assert isinstance(loaded.model, keras.Model)
    assert not loaded.model.compiled
    np.testing.assert_array_equal(loaded.model(images, training=False), model(images, training=False))


def test_a_name_in_capitals_and_one_that_says_weights(tmp_path: Path) -> None:
    model = net(lambda layers, x: layers.Conv2D(4, 3)(x))
    for name in ("own.H5", "own.hdf5"):
        (tmp_path / name).write_bytes(saved(model, tmp_path / "own.h5").read_bytes())
        images = user_nets.pictures(model)
        np.testing.assert_array_equal(load_model_file(tmp_path / name).model(images), model(images))


@pytest.mark.parametrize("name", FORMATS)
def test_layers_of_the_catalog_need_no_mention(tmp_path: Path, name: str) -> None:
    from xxdeploy.models.local_response import LocalResponseNormalization

    model = net(lambda layers, x: LocalResponseNormalization()(layers.Conv2D(8, 3)(x)))
    loaded = load_model_file(saved(model, tmp_path / name)).model
    images = user_nets.pictures(model, 1)
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize("name", FORMATS)
def test_lambda_layers_run_when_they_are_allowed(tmp_path: Path, name: str) -> None:
    model = net(lambda layers, x: layers.Lambda(lambda x: x * float("2"), name="double")(layers.Conv2D(4, 3)(x)))
    path = saved(model, tmp_path / name)
    with pytest.raises(UsageError, match="'double'") as caught:
        load_model_file(path)
    assert caught.value.code == "lambda-layer"
    images = user_nets.pictures(model)
    np.testing.assert_array_equal(load_model_file(path, unsafe_lambda=True).model(images), model(images))


@pytest.mark.parametrize("name", FORMATS)
def test_the_code_of_a_lambda_does_not_run(tmp_path: Path, name: str) -> None:
    marker = str(tmp_path / "executed")
    model = net(
        lambda layers, x: layers.Lambda(
            eval(f"lambda x: x + len(__import__('os').makedirs({marker!r}, exist_ok=True) or '')")
        )(x)
    )
    path = saved(model, tmp_path / name)
    os.rmdir(marker)  # noqa: PTH106 - it ran when the model was built
    assert code_of(load_model_file, path) == "lambda-layer"
    assert not Path(marker).exists()
    load_model_file(path, unsafe_lambda=True)
    assert Path(marker).exists()  # so it would have


def test_a_layer_that_is_no_model(tmp_path: Path) -> None:
    path = saved(net(lambda _, x: x), tmp_path / "own.keras")

    def replace(config: dict[str, Any]) -> None:
        dense = config["config"]["layers"][-1]
        config.clear()
        config.update(dense)

    assert code_of(load_model_file, rewritten(path, replace)) == "damaged-model"


def test_nodes_that_lead_nowhere(tmp_path: Path) -> None:
    path = saved(net(lambda layers, x: layers.Conv2D(4, 3)(x)), tmp_path / "own.keras")
    rewritten(path, lambda config: config["config"].update(output_layers=["nowhere", 0, 0]))
    assert code_of(load_model_file, path) == "build-failed"
    rewritten(path, lambda config: config["config"].update(layers=3))
    assert code_of(load_model_file, path) == "build-failed"


def test_weights_that_are_missing_or_broken(tmp_path: Path) -> None:
    model = net(lambda layers, x: layers.Conv2D(4, 3, name="conv")(x))
    path = saved(model, tmp_path / "own.h5")
    with h5py.File(path, "a") as file:
        group = file["model_weights/conv"]
        group[group.attrs["weight_names"][0]][...] = np.nan
    assert code_of(load_model_file, path) == "non-finite-weights"
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["layer_names"] = np.array([b"input_layer", b"pool", b"head"])
    assert code_of(load_model_file, path) == "weights-mismatch"


def test_a_truncated_copy_in_a_good_archive(tmp_path: Path) -> None:
    path = saved(net(lambda layers, x: layers.Conv2D(4, 3)(x)), tmp_path / "own.keras")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data[:-500] if name.endswith("h5") else data)
    with pytest.raises(ConversionError) as caught:
        load_model_file(path)
    assert caught.value.code == "damaged-model"
    assert str(path) in caught.value.message


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_random_shear_is_the_identity(tmp_path: Path, suffix: str) -> None:
    """Keras 3.15 cannot build the layer from the options that it writes for it."""
    keras = load_keras()
    image = keras.Input((6, 6, 3))
    last = keras.layers.Conv2D(2, 3)
    keras.Model(image, last(keras.layers.RandomShear(0.2, 0.1)(image))).save(tmp_path / f"shear{suffix}")
    loaded = load_model_file(tmp_path / f"shear{suffix}")
    batch = np.random.default_rng(1).uniform(size=(2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded.model(batch), last(batch))
    assert "RandomShear.x_factor" in loaded.notes[-1]
