"""The user's own file into a model: both formats, custom objects, Lambda layers, number formats, sizes, limits."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import own_nets
import pytest
from own_nets import net, saved

from xxdeploy.convert.libraries import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.errors import ConversionError, UsageError, XXDeployError

FORMATS = ["own.keras", "own.h5"]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    load_keras().backend.clear_session()


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


def code_of(path: Path, **options: Any) -> str:
    with pytest.raises(XXDeployError) as caught:
        load_model_file(path, **options)
    assert caught.value.hint
    return caught.value.code


@pytest.mark.parametrize("name", FORMATS)
def test_a_trained_model_comes_back_exactly(tmp_path: Path, name: str) -> None:
    keras = load_keras()
    model = net(lambda layers, x: layers.BatchNormalization()(layers.Conv2D(4, 3)(layers.RandomFlip()(x))))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = own_nets.pictures(model, 4)
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
        images = own_nets.pictures(model)
        np.testing.assert_array_equal(load_model_file(tmp_path / name).model(images), model(images))


@pytest.mark.parametrize("name", FORMATS)
def test_layers_of_the_catalog_need_no_mention(tmp_path: Path, name: str) -> None:
    from xxdeploy.models.local_response import LocalResponseNormalization

    model = net(lambda layers, x: LocalResponseNormalization()(layers.Conv2D(8, 3)(x)))
    loaded = load_model_file(saved(model, tmp_path / name)).model
    images = own_nets.pictures(model, 1)
    np.testing.assert_array_equal(loaded(images), model(images))


# ------------------------------------------------------------ code of others

MODULE = """
import keras
from pathlib import Path

Path(__file__).with_suffix(".imported").touch()

@keras.saving.register_keras_serializable(package="mine")
class Double(keras.layers.Layer):
    def call(self, x):
        return 2 * x

class Plain(keras.layers.Layer):
    def call(self, x):
        return 3 * x

def cube(x):
    return x * x * x
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working folder, as a user has it beside the model."""
    name = f"own_layers_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    registered = load_keras().saving.get_custom_objects()
    before = dict(registered)
    yield name
    sys.modules.pop(name, None)
    registered.clear()
    registered.update(before)


@pytest.mark.parametrize("name", FORMATS)
def test_custom_objects_are_imported_when_named_and_only_then(tmp_path: Path, module: str, name: str) -> None:
    sys.path.insert(0, str(tmp_path))
    own = __import__(module)
    sys.path.remove(str(tmp_path))

    def body(layers: Any, x: Any) -> Any:
        x = own.Plain()(own.Double()(layers.Conv2D(4, 3, activation=own.cube)(x)))
        return layers.Lambda(own.cube)(layers.Activation(own.cube)(x))

    model = net(body)
    images = own_nets.pictures(model, largest=0.5)
    expected = np.asarray(model(images))
    path = saved(model, tmp_path / name)
    marker = tmp_path / f"{module}.imported"
    marker.unlink()
    del sys.modules[module]
    load_keras().saving.get_custom_objects().clear()
    assert code_of(path) == "lambda-layer"
    assert code_of(path, custom_objects=[f"{module}:cube"]) == "custom-object"
    assert not marker.exists()
    given = [f"{module}:{name}" for name in ("Double", "Plain", "cube")]
    loaded = load_model_file(path, custom_objects=given).model
    assert marker.exists()
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)


@pytest.mark.parametrize("given", ["layers", "layers.Swish", ":Swish", "layers:", "a b:c", "../x:y", "os:system:x"])
def test_custom_objects_are_written_with_a_colon(tmp_path: Path, given: str) -> None:
    path = saved(net(lambda _, x: x), tmp_path / "own.keras")
    assert code_of(path, custom_objects=[given]) == "bad-custom-objects"


@pytest.mark.parametrize("given", ["no_such_module:X", "json:no_such_name"])
def test_custom_objects_that_are_not_there(tmp_path: Path, given: str) -> None:
    path = saved(net(lambda _, x: x), tmp_path / "own.keras")
    assert code_of(path, custom_objects=[given]) == "bad-custom-objects"


@pytest.mark.parametrize("name", FORMATS)
def test_lambda_layers_run_when_they_are_allowed(tmp_path: Path, name: str) -> None:
    model = net(lambda layers, x: layers.Lambda(lambda x: x * 2.0 + 1.0, name="double")(layers.Conv2D(4, 3)(x)))
    path = saved(model, tmp_path / name)
    with pytest.raises(UsageError, match="'double'") as caught:
        load_model_file(path)
    assert caught.value.code == "lambda-layer"
    images = own_nets.pictures(model)
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
    assert code_of(path) == "lambda-layer"
    assert not Path(marker).exists()
    load_model_file(path, unsafe_lambda=True)
    assert Path(marker).exists()  # so it would have


# ------------------------------------------------------------ number formats, batches, sizes


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_sixteen_bits_become_float32(tmp_path: Path, name: str, policy: str) -> None:
    keras = load_keras()
    inner = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255, dtype=policy),
            keras.layers.Conv2D(4, 3, dtype=policy),
            keras.layers.BatchNormalization(dtype=policy),
        ]
    )
    model = net(lambda _, x: inner(x))
    images = own_nets.pictures(model)
    expected = np.asarray(model(images, training=False), np.float32)
    path = saved(model, tmp_path / name)
    loaded = load_model_file(path)
    assert policy in loaded.notes[0]
    assert {weight.dtype for weight in loaded.model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in loaded.model.layers} == {"float32"}
    np.testing.assert_allclose(loaded.model(images, training=False), expected, atol=0.02)


def test_inputs_of_bytes_take_floats(tmp_path: Path) -> None:
    model = net(lambda layers, x: layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(x)), dtype="uint8")
    loaded = load_model_file(saved(model, tmp_path / "own.keras")).model
    images = own_nets.pictures(model).astype(np.uint8)
    assert loaded.inputs[0].dtype == "float32"
    np.testing.assert_allclose(loaded(images.astype(np.float32)), model(images), atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_a_fixed_batch_is_freed(tmp_path: Path, name: str) -> None:
    keras = load_keras()
    image = keras.Input(batch_shape=(4, 8, 8, 3))
    inner = own_nets.shaken(keras.Sequential([keras.Input(batch_shape=(4, 8, 8, 3)), keras.layers.Conv2D(2, 3)]))
    model = keras.Model(image, keras.layers.Flatten()(inner(image)))
    loaded = load_model_file(saved(model, tmp_path / name))
    assert "batches of 4" in loaded.notes[0]
    assert loaded.model.input_shape[0] is None
    images = own_nets.pictures(loaded.model, 4)
    np.testing.assert_allclose(loaded.model(images[:3]), np.asarray(model(images))[:3], atol=1e-6)


@pytest.mark.parametrize("shape", [(None, None, 3), (16, 16, 3)])
def test_another_input_size(tmp_path: Path, shape: tuple[int | None, ...]) -> None:
    keras = load_keras()
    inner = keras.Sequential([keras.Input(shape), keras.layers.Conv2D(4, 3)], name="inner")
    model = net(lambda _, x: inner(x), shape)  # type: ignore[arg-type]
    path = saved(model, tmp_path / "own.keras")
    loaded = load_model_file(path, input_size=(24, 20)).model
    assert loaded.input_shape == (None, 24, 20, 3)
    images = own_nets.pictures(loaded)
    assert loaded.get_layer("inner").input_shape[1:3] == (24, 20)
    assert np.asarray(loaded(images)).shape == (3, 5)
    assert load_model_file(path, input_size=12).model.input_shape == (None, 12, 12, 3)


def test_a_size_that_the_weights_do_not_allow(tmp_path: Path) -> None:
    keras = load_keras()
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    path = saved(model, tmp_path / "own.keras")
    assert code_of(path, input_size=9) == "bad-input-size"
    assert code_of(path, input_size=4000) == "bad-input-size"  # before the weights are made
    convolved = net(lambda layers, x: layers.Conv2D(4, 9)(x))
    assert code_of(saved(convolved, tmp_path / "conv.keras"), input_size=4) == "bad-input-size"


# ------------------------------------------------------------ what only building shows


@pytest.mark.parametrize("change", [{"units": 10_000_000_000}, {"units": 3_000_000}, {"units": 4}, {"units": -1}])
def test_a_configuration_that_asks_for_other_weights(tmp_path: Path, change: dict[str, int]) -> None:
    path = saved(net(lambda layers, x: layers.Conv2D(4, 3)(x)), tmp_path / "own.keras")
    rewritten(path, lambda config: config["config"]["layers"][-1]["config"].update(change))
    assert code_of(path) == ("build-failed" if change["units"] < 0 else "weights-mismatch")


def test_pictures_that_fill_the_memory(tmp_path: Path) -> None:
    path = saved(net(lambda layers, x: layers.UpSampling2D(2)(layers.Conv2D(4, 3)(x))), tmp_path / "own.keras")

    def enlarge(config: dict[str, Any]) -> None:
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "UpSampling2D")
        layer["config"]["size"] = [100_000, 100_000]

    assert code_of(rewritten(path, enlarge)) == "activations-too-large"


def test_a_layer_that_is_no_model(tmp_path: Path) -> None:
    path = saved(net(lambda _, x: x), tmp_path / "own.keras")

    def replace(config: dict[str, Any]) -> None:
        dense = config["config"]["layers"][-1]
        config.clear()
        config.update(dense)

    assert code_of(rewritten(path, replace)) == "damaged-model"


def test_nodes_that_lead_nowhere(tmp_path: Path) -> None:
    path = saved(net(lambda layers, x: layers.Conv2D(4, 3)(x)), tmp_path / "own.keras")
    rewritten(path, lambda config: config["config"].update(output_layers=["nowhere", 0, 0]))
    assert code_of(path) == "build-failed"
    rewritten(path, lambda config: config["config"].update(layers=3))
    assert code_of(path) == "build-failed"


def test_weights_that_are_missing_or_broken(tmp_path: Path) -> None:
    model = net(lambda layers, x: layers.Conv2D(4, 3, name="conv")(x))
    path = saved(model, tmp_path / "own.h5")
    with h5py.File(path, "a") as file:
        group = file["model_weights/conv"]
        group[group.attrs["weight_names"][0]][...] = np.nan
    assert code_of(path) == "non-finite-weights"
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["layer_names"] = np.array([b"input_layer", b"pool", b"head"])
    assert code_of(path) == "weights-mismatch"


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
