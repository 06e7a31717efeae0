"""Files that take the picture's bytes channel by channel stand the comparison with Keras, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xxdeploy
from xxdeploy.diagnose.first_fault import check_stages, open_reference
from xxdeploy.errors import UsageError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.runtime.bundle.files import open_bundle


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["caffe", "torch"])
def test_every_file_of_a_bundle(mode: str, tmp_path: Path, images: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ZeroPadding2D(3)(inputs)
    x = keras.layers.Conv2D(16, 7, strides=2, activation="relu", name="first")(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))
    if mode == "caffe":  # pixels up to 150: keep scores in reach
        model.get_layer("first").set_weights([get_weight / 60 for get_weight in model.get_layer("first").get_weights()])
    saved = tmp_path / "small.keras"
    model.save(saved)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('calibrator = "minmax"\n', encoding="utf-8")
    plan = ExportOptions.of("int8", recipe=str(recipe), calibration=images / "plain", preprocess=mode)
    root, manifest = open_bundle(export(saved, plan, tmp_path / "bundle").bundle)
    assert {"int8", "int8-arm"} <= {variant.name for variant in manifest.variants}
    pictures = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    batches = [manifest.preprocess.normalize(pictures)]
    parities = check_stages(root, manifest, open_reference(manifest, str(saved)), batches, drawn=True)
    assert any("int8" in parity.candidate for parity in parities)


def test_a_model_in_memory_is_known_by_its_weights(tmp_path: Path) -> None:
    import keras

    def network(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        parts = [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)]
        return keras.Sequential(parts, name="small")

    model = network(0)
    _, manifest = open_bundle(xxdeploy.export(model, tmp_path / "bundle", quiet=True).bundle)
    with pytest.raises(UsageError, match="was exported from a model in memory") as caught:
        open_reference(manifest)
    assert caught.value.code == "model-unknown"
    assert "model.save('small.keras')" in caught.value.hint  # which works:
    model.save(tmp_path / "small.keras")
    assert open_reference(manifest, str(tmp_path / "small.keras")).name == "small"
    network(1).save(tmp_path / "other.keras")
    with pytest.raises(UsageError, match="SHA-256 of the weights") as caught:
        open_reference(manifest, str(tmp_path / "other.keras"))
    assert caught.value.code == "another-model-file"
