"""A model of the user's own, from the file to the device."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.pipeline import ExportPlan, export
from xxdeploy.pipeline.source import name_of
from xxdeploy.runtime import load


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network for 32 x 32 that scales its pixels itself, with random but fixed weights."""
    import keras

    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="photo")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(16, 3, padding="same", activation="relu", name="block")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, layers.Conv2D(16, 3, padding="same")(y)]))
    model = keras.Model(image, layers.Dense(7, activation="softmax", name="kinds")(x), name="residual")
    path = tmp_path_factory.mktemp("own") / "My Residual (v2).keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, numbers = tmp_path_factory.mktemp("images"), np.random.default_rng(5)
    for index in range(40):
        low, high = sorted(numbers.integers(0, 256, 2).tolist())
        picture = numbers.integers(low, high + 1, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / f"{index}.png")
    return root


def test_a_file_becomes_a_bundle(residual: Path, folder: Path, tmp_path: Path) -> None:
    import keras

    result = export(residual, ExportPlan("int8", calibration=folder), tmp_path / "out")
    assert result.task == "classification"
    assert any("scales the pixels itself" in note for note in result.notes)
    assert result.parities[0].max_abs < 1e-5
    assert result.rows[2].runner == "onnx-int8"  # not -arm, which comes first in the bundle and gives the same answers
    runtime = load(result.bundle)
    assert runtime.manifest.name == "my-residual-v2-int8"
    assert runtime.manifest.source["model"] == residual.name
    assert runtime.manifest.preprocess.mode == "none"
    picture = np.asarray(Image.open(next(folder.iterdir())))
    model: Any = keras.models.load_model(residual)
    expected = model(picture[None].astype(np.float32)).numpy()
    assert runtime.probabilities(picture) == pytest.approx(expected, abs=0.05)
    assert runtime.probabilities(picture).shape == (1, 7)


def test_an_inner_layer_is_features(residual: Path, tmp_path: Path) -> None:
    result = export(residual, ExportPlan(output_layer="block"), tmp_path / "out")
    assert result.task == "features"
    assert load(result.bundle).features(np.zeros((32, 32, 3), np.uint8)).shape[0] == 1


@pytest.mark.parametrize(
    "plan",
    [
        ExportPlan(options=BuildOptions(classes=5)),
        ExportPlan(options=BuildOptions(include_top=False)),
        ExportPlan(weights="none"),
    ],
)
def test_what_builds_a_catalog_network_says_nothing_about_a_file(plan: ExportPlan, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "model.keras", plan, tmp_path / "out")
    assert caught.value.code == "catalog-only"


def test_a_catalog_network_has_no_file_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export(find("lenet"), ExportPlan(weights="none", output_layer="x"), tmp_path / "out")
    assert caught.value.code == "model-file-only"


def test_names() -> None:
    assert name_of(Path("a/Björn's model.v2.h5")) == "bj-rn-s-model.v2"
    assert name_of(Path("__.keras")) == "model"
    assert name_of(find("MobileNet-V2")) == "mobilenetv2"
