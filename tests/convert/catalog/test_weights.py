"""Weights from files: each layout is read, and each wrong file is an error with a code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.errors import ConversionError, UsageError, XXDeployError
from xxdeploy.models.catalog import BuildOptions, find


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
