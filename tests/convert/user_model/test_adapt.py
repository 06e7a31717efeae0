from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import user_nets
from codes import code_of
from user_nets import net, saved

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file

FORMATS = ["own.keras", "own.h5"]


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
    images = user_nets.pictures(model)
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
    images = user_nets.pictures(model).astype(np.uint8)
    assert loaded.inputs[0].dtype == "float32"
    np.testing.assert_allclose(loaded(images.astype(np.float32)), model(images), atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_a_fixed_batch_is_freed(tmp_path: Path, name: str) -> None:
    keras = load_keras()
    image = keras.Input(batch_shape=(4, 8, 8, 3))
    inner = user_nets.shaken(keras.Sequential([keras.Input(batch_shape=(4, 8, 8, 3)), keras.layers.Conv2D(2, 3)]))
    model = keras.Model(image, keras.layers.Flatten()(inner(image)))
    loaded = load_model_file(saved(model, tmp_path / name))
    assert "batches of 4" in loaded.notes[0]
    assert loaded.model.input_shape[0] is None
    images = user_nets.pictures(loaded.model, 4)
    np.testing.assert_allclose(loaded.model(images[:3]), np.asarray(model(images))[:3], atol=1e-6)


@pytest.mark.parametrize("shape", [(None, None, 3), (16, 16, 3)])
def test_another_input_size(tmp_path: Path, shape: tuple[int | None, ...]) -> None:
    keras = load_keras()
    inner = keras.Sequential([keras.Input(shape), keras.layers.Conv2D(4, 3)], name="inner")
    model = net(lambda _, x: inner(x), shape)  # type: ignore[arg-type]
    path = saved(model, tmp_path / "own.keras")
    loaded = load_model_file(path, input_size=(24, 20)).model
    assert loaded.input_shape == (None, 24, 20, 3)
    images = user_nets.pictures(loaded)
    assert loaded.get_layer("inner").input_shape[1:3] == (24, 20)
    assert np.asarray(loaded(images)).shape == (3, 5)
    assert load_model_file(path, input_size=12).model.input_shape == (None, 12, 12, 3)


def test_a_size_that_the_weights_do_not_allow(tmp_path: Path) -> None:
    keras = load_keras()
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    path = saved(model, tmp_path / "own.keras")
    assert code_of(load_model_file, path, input_size=9) == "bad-input-size"
    assert code_of(load_model_file, path, input_size=4000) == "bad-input-size"  # before the weights are made
    convolved = net(lambda layers, x: layers.Conv2D(4, 9)(x))
    assert code_of(load_model_file, saved(convolved, tmp_path / "conv.keras"), input_size=4) == "bad-input-size"
