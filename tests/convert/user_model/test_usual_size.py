from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codes import code_of
from PIL import Image
from user_nets import net, pictures, saved

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.prepare import prepare_model
from xxdeploy.convert.user_model.usual_size import sizes_in, usual_size


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mobilenetv2_1.00_224", {224}),
        ("mobilenet_v2 224", {224}),
        ("unet_256x256", {256}),
        ("flowers-img180", {180}),
        ("plants_size_128", {128}),
        ("best-96px", {96}),
        ("model_224_best_299", {224, 299}),
        # numbers that count something else
        ("densenet_201", set()),
        ("resnet_152_v2", set()),
        ("vgg_16", set()),
        ("cnn_128", set()),
        ("model_epoch_224", set()),
        ("batch_192", set()),
        ("weights_2024", set()),
        ("640x480", set()),
        ("224th", set()),
    ],
)
def test_what_a_name_says(name: str, sizes: set[int]) -> None:
    assert sizes_in(name) == sizes


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": config}


def model(*layers: dict[str, Any], name: str = "own", size: int | None = None) -> dict[str, Any]:
    image = layer("InputLayer", batch_shape=[None, size, size, 3])
    return layer("Functional", name=name, layers=[image, *layers])


RESIZING, CONV = layer("Resizing", height=20, width=24), layer("Conv2D", filters=3)


@pytest.mark.parametrize(
    ("config", "file", "found"),
    [
        (model(RESIZING, CONV), "a_224", (20, 24)),  # the layer knows better
        (model(layer("Sequential", name="inner", layers=[RESIZING]), CONV), "a", (20, 24)),
        (model(CONV, RESIZING), "a", None),  # enlarges features
        (model(CONV), "a_224", (224, 224)),
        (model(CONV, name="net_160"), "a", (160, 160)),
        (model(layer("Functional", name="trunk_192", layers=[CONV])), "a", (192, 192)),
        (model(CONV, name="net_160"), "a_224", None),  # two sizes
        (model(RESIZING, CONV, size=32), "a_224", None),  # the file has one
        (model(CONV), "a", None),
        (layer("Functional", name="n_224", layers=[layer("InputLayer", batch_shape=[None, 32, None, 1])]), "a", None),
    ],
)
def test_the_size_is_taken_where_it_is_said(config: Any, file: str, found: tuple[int, int] | None) -> None:
    usual = usual_size(config, Path(f"{file}.keras"))
    assert (None if usual is None else usual[0]) == found


def photos(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir()
    for index, size in enumerate(sizes):
        Image.new("RGB", size).save(folder / f"{index}.png")
    return folder


def test_images_of_one_size_say_it(tmp_path: Path) -> None:
    one = photos(tmp_path / "one", (40, 30), (40, 30))
    assert usual_size(model(CONV), Path("a.keras"), one) == ((30, 40), "the size of all images in one")
    assert usual_size(model(CONV), Path("a.keras"), photos(tmp_path / "two", (40, 30), (30, 40))) is None
    (tmp_path / "one" / "2.png").write_bytes(b"no picture")
    assert usual_size(model(CONV), Path("a.keras"), one) is None


def test_a_file_of_any_size_gets_the_size_of_its_images(tmp_path: Path) -> None:
    own = net(lambda layers, x: layers.Conv2D(4, 3)(x), (None, None, 3))  # type: ignore[arg-type]
    path = saved(own, tmp_path / "own.keras")
    loaded = load_model_file(path, images=photos(tmp_path / "photos", (12, 10)))
    assert loaded.model.input_shape == (None, 10, 12, 3)
    assert any("10 x 12, the size of all images in photos (or --input-size N)" in note for note in loaded.notes)
    batch = pictures(loaded.model)
    np.testing.assert_allclose(loaded.model(batch), own(batch), atol=1e-6)
    assert load_model_file(path, images=tmp_path / "photos", input_size=16).model.input_shape == (None, 16, 16, 3)
    assert code_of(prepare_model, load_model_file(path).model) == "input-size-missing"


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_layers_of_keras_own_networks_are_known(tmp_path: Path, suffix: str) -> None:
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    def block(layers: Any, x: Any) -> Any:
        for name in ("net_stage_3_block_2_depthwise_conv", "mixed_6a", "conv_7b", "conv_7b_ac"):  # HDF5 has no modules
            x = layers.Dense(4, name=name)(x)
        x = StochasticDepth(0.1)(LayerScale(0.5, 4)(x))
        return CustomScaleLayer(0.2)([x, layers.Dense(4)(x)])

    own = net(block)
    loaded = load_model_file(saved(own, tmp_path / f"own.{suffix}")).model
    batch = pictures(own)
    np.testing.assert_allclose(loaded(batch), own(batch), atol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_class_with_the_name_of_such_a_layer_is_not_taken_for_it(tmp_path: Path, suffix: str) -> None:
    keras = load_keras()

    class LayerScale(keras.layers.Layer):  # type: ignore[name-defined,misc]
        def call(self, x: Any) -> Any:
            return x / 7

    path = saved(net(lambda _, x: LayerScale()(x)), tmp_path / f"own.{suffix}")
    assert code_of(load_model_file, path) == "custom-object"
