"""Building networks: parameters, seeds, options, weights from files, and every way that weights can be wrong."""

from __future__ import annotations

import gc
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.libraries import load_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.datasets import Labels, open_images
from xxdeploy.errors import ConversionError, UsageError, XXDeployError
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.models.samples import sample_for
from xxdeploy.runtime.image.preprocess import Preprocess

SMALL = BuildOptions(alpha=0.35, input_size=32, classes=5)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    load_keras().backend.clear_session()
    gc.collect()


@pytest.fixture
def lenet_file(tmp_path: Path) -> Path:
    """LeNet's random weights in the layout of Keras 3."""
    path = tmp_path / "lenet.weights.h5"
    build_model(find("lenet"), weights="none", options=BuildOptions(seed=3)).save_weights(path)
    return path


def same(first: Any, second: Any) -> bool:
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def refused(kind: type[XXDeployError], code: str, spec: str, weights: Path | str, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        build_model(find(spec), weights=str(weights), options=BuildOptions(**options))
    assert caught.value.code == code
    return f"{caught.value.message} {caught.value.hint}"


SOME = ["lenet", "mobilenetv2", "inceptionv3", "googlenet", "resnext50", "densenet-bc-40-12", "alexnet-lrn"]


@pytest.mark.parametrize("name", SOME)  # tests/models/test_networks.py builds all of them, without numbers
def test_parameters_and_shapes_are_those_of_the_catalog(name: str) -> None:
    spec = find(name)
    model = build_model(spec, weights="none")
    assert model.count_params() == spec.parameters
    assert model.input_shape == (None, spec.input_size, spec.input_size, spec.channels)
    assert model.output_shape == (None, spec.classes)


@pytest.mark.parametrize(
    "name", ["lenet", "mobilenet", "mobilenetv2", "xception", "densenet121", "resnet50", "resnet50v2", "inceptionv3"]
)
def test_the_smallest_size_can_be_built(name: str) -> None:
    spec = find(name)
    model = build_model(spec, weights="none", options=BuildOptions(input_size=spec.min_size, classes=3))
    assert model.output_shape == (None, 3)


def test_the_same_seed_gives_the_same_network() -> None:
    first = build_model(find("mobilenetv2"), weights="none", options=SMALL)
    again = build_model(find("mobilenetv2"), weights="none", options=SMALL)
    other = build_model(find("mobilenetv2"), weights="none", options=BuildOptions(0.35, 32, 5, seed=1))
    assert same(first, again)
    assert not same(first, other)
    assert [layer.name for layer in first.layers] == [layer.name for layer in again.layers]
    assert first.name == again.name


def test_the_callers_random_numbers_are_left_alone() -> None:
    random.seed(7)
    np.random.seed(7)
    expected = random.random(), np.random.random()
    random.seed(7)
    np.random.seed(7)
    build_model(find("lenet"), weights="none", options=BuildOptions(seed=1))
    assert (random.random(), np.random.random()) == expected


def test_without_the_classifier_it_gives_features() -> None:
    options = BuildOptions(alpha=0.35, input_size=32, include_top=False)
    assert build_model(find("mobilenetv2"), weights="none", options=options).output_shape == (None, 1, 1, 1280)
    pooled = BuildOptions(alpha=0.35, input_size=32, include_top=False, pooling="max")
    assert build_model(find("mobilenetv2"), weights="none", options=pooled).output_shape == (None, 1280)
    lenet = build_model(find("lenet"), weights="none", options=BuildOptions(include_top=False, pooling="avg"))
    assert lenet.output_shape == (None, 64)


def test_options_are_refused_before_anything_is_built() -> None:
    refused(UsageError, "bad-input-size", "mobilenetv2", "none", input_size=8)


# --- ImageNet weights -------------------------------------------------------------------------------------------------


def test_imagenet_weights_come_from_the_cache(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(shared_data / "keras-home"))
    model = build_model(find("mobilenet"))
    assert model.count_params() == 4_253_864
    assert not same(model, build_model(find("mobilenet"), weights="none"))


def test_a_cache_that_cannot_be_written_to_is_read(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(shared_data / "keras-home"))
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # Keras would look in /tmp/.keras then
    assert build_model(find("mobilenetv2")).count_params() == 3_538_984


@pytest.mark.parametrize("failure", [OSError("unreachable"), TimeoutError("timed out")])
def test_no_cache_and_no_network(
    failure: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise failure

    load_keras()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", unreachable)
    start = time.perf_counter()
    text = refused(UsageError, "weights-unavailable", "resnet50", "imagenet")
    assert time.perf_counter() - start < 60
    assert "resnet50" in text
    assert str(tmp_path) in text
    assert all(way in text for way in ("KERAS_HOME", "sample", "none", "FILE"))
    assert capsys.readouterr().out == ""


def test_a_cut_off_download_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
    (tmp_path / "models" / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert name in refused(ConversionError, "damaged-weights", "mobilenetv2", "imagenet")


def test_keras_is_put_back_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_keras()
    from keras.src.utils import file_utils

    before = file_utils.get_file
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(file_utils, "urlretrieve", lambda *_, **__: 1 / 0)
    refused(UsageError, "weights-unavailable", "mobilenet", "imagenet")
    assert file_utils.get_file is before


# --- weights from files -----------------------------------------------------------------------------------------------


def test_the_layout_of_keras_3_whatever_it_is_called(lenet_file: Path, tmp_path: Path) -> None:
    expected = build_model(find("lenet"), weights="none", options=BuildOptions(seed=3))
    assert same(build_model(find("lenet"), weights=str(lenet_file)), expected)
    renamed = Path(shutil.copy(lenet_file, tmp_path / "checkpoint.h5"))
    assert same(build_model(find("lenet"), weights=str(renamed)), expected)


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "model.hdf5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_older_layout_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    keras = load_keras()
    expected = build_model(find("lenet"), weights="none", options=BuildOptions(seed=3))
    keras.saving.save_model(expected, tmp_path / "whole.h5")  # the model around its weights, as `model.save` writes it
    (tmp_path / "whole.h5").rename(tmp_path / name)
    assert same(build_model(find("lenet"), weights=str(tmp_path / name)), expected)


def test_a_trained_checkpoint_has_more_than_weights(tmp_path: Path) -> None:
    model = build_model(find("lenet"), weights="none", options=BuildOptions(seed=3))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.zeros((4, 28, 28, 1), np.float32), np.zeros(4), verbose=0)
    model.save_weights(tmp_path / "trained.weights.h5")
    assert same(build_model(find("lenet"), weights=str(tmp_path / "trained.weights.h5")), model)


def test_real_weights_from_a_file(shared_data: Path) -> None:
    path = shared_data / "nasnetmobile-cifar10" / "nasnetmobile_cifar10.weights.h5"
    model = build_model(find("nasnetmobile"), weights=str(path), options=BuildOptions(classes=10, input_size=48))
    assert model.output_shape == (None, 10)


def test_no_file(tmp_path: Path) -> None:
    assert "gone.h5" in refused(UsageError, "no-weights-file", "lenet", tmp_path / "gone.h5")
    refused(UsageError, "no-weights-file", "lenet", tmp_path)
    refused(UsageError, "no-weights-file", "lenet", "imagnet")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not this", b"\x00" * 4096])
def test_not_hdf5(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.weights.h5").write_bytes(content)
    assert "save_weights" in refused(UsageError, "not-weights", "lenet", tmp_path / "x.weights.h5")


def test_hdf5_of_something_else(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["measurements"] = np.zeros(3)
    refused(UsageError, "not-weights", "lenet", tmp_path / "x.h5")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_cut_off(share: float, lenet_file: Path) -> None:
    data = lenet_file.read_bytes()
    lenet_file.write_bytes(data[: int(len(data) * share)])
    assert str(lenet_file) in refused(ConversionError, "damaged-weights", "lenet", lenet_file)


def test_of_another_network(lenet_file: Path) -> None:
    text = refused(ConversionError, "weights-mismatch", "mobilenetv2", lenet_file)
    assert "MobileNetV2" in text
    assert "155,606 numbers in 8 arrays" in text


def test_of_the_same_network_with_other_options(lenet_file: Path) -> None:
    assert "--classes" in refused(ConversionError, "weights-mismatch", "lenet", lenet_file, classes=7)
    refused(ConversionError, "weights-mismatch", "lenet", lenet_file, include_top=False)


def test_as_many_numbers_in_other_shapes(lenet_file: Path) -> None:
    import h5py

    with h5py.File(lenet_file, "r+") as file:
        kernel = file["layers/dense/vars/0"][:]
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = kernel.T
    assert "LeNet" in refused(ConversionError, "weights-mismatch", "lenet", lenet_file)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value: float, lenet_file: Path) -> None:
    import h5py

    with h5py.File(lenet_file, "r+") as file:
        file["layers/conv2d_1/vars/0"][0, 0, 0, 0] = value
        file["layers/dense/vars/1"][3] = value
    text = refused(ConversionError, "non-finite-weights", "lenet", lenet_file)
    assert "in 2 layers: conv2, dense1" in text


# --- sample weights ---------------------------------------------------------------------------------------------------


def test_sample_weights_bring_their_options() -> None:
    model = build_model(find("mobilenetv2"), weights="sample")
    assert (model.input_shape, model.output_shape) == ((None, 48, 48, 3), (None, 10))
    assert build_model(find("lenet"), weights="sample").output_shape == (None, 10)


@pytest.mark.parametrize(("name", "at_least"), [("lenet", 0.90), ("mobilenetv2", 0.88)])
def test_sample_weights_know_the_sample_images(name: str, at_least: float) -> None:
    spec = find(name)
    sample = sample_for(spec)
    images = open_images(sample.evaluation, labels=Labels(sample.labels), require_labels=True)
    size = sample.options.input_size or spec.input_size
    runner = KerasRunner(build_model(spec, weights="sample"))
    batches = images.batches(Preprocess(size, size, spec.channels, spec.preprocess), 100)
    classes = np.concatenate([runner.run(batch).argmax(axis=1) for batch in batches])
    assert np.mean(classes == np.asarray(images.labels)) >= at_least


def test_sample_weights_allow_no_other_network() -> None:
    assert "alpha 0.35, not 1.0" in refused(UsageError, "sample-options", "mobilenetv2", "sample", alpha=1.0)
    assert "MobileNetV2" in refused(UsageError, "no-sample-weights", "resnet50", "sample")
