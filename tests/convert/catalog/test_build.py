"""Building networks: parameters, seeds, options, downloads and samples."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.datasets import Labels, open_images
from xxdeploy.errors import ConversionError, UsageError, XXDeployError
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.models.samples import sample_for
from xxdeploy.runtime.image.preprocess import Preprocess

SMALL = BuildOptions(alpha=0.35, input_size=32, classes=5)


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
