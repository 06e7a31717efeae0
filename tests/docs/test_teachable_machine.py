"""The guide for Teachable Machine, on a file of its form: nested models, options of Keras 2, numbered labels."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from docs_blocks import DOCS, blocks
from PIL import Image

from xxdeploy.cli import main

CLASSES = ("cup", "phone", "nothing")
SIDE = 32


def keras_2(config: Any) -> None:
    """Add the option that Keras 3 refuses, and take away what Keras 2 did not write."""
    if isinstance(config, list):
        for part in config:
            keras_2(part)
    elif isinstance(config, dict):
        if config.get("class_name") == "DepthwiseConv2D":
            config["config"]["groups"] = 1
        for part in config.values():
            keras_2(part)


def write_model(path: Path) -> None:
    """Write a classifier in the form of ``keras_model.h5``."""
    keras.utils.set_random_seed(0)
    picture = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(picture)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    network = keras.Model(picture, keras.layers.ReLU(6.0)(x))
    body = keras.Sequential([network, keras.layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax", use_bias=False)])
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), body, head])
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        keras_2(config)
        file.attrs["model_config"] = json.dumps(config)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("samples", 12), ("test", 4)):
        for label in CLASSES:
            (tmp_path / part / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (24, 40, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / f"{index}.jpg")
    (tmp_path / "labels.txt").write_text("".join(f"{index} {label}\n" for index, label in enumerate(CLASSES)))
    write_model(tmp_path / "keras_model.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_guide(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        line
        for block in blocks(DOCS / "how-to" / "teachable-machine.md", "bash")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    assert [shlex.split(line)[1] for line in lines] == ["doctor", "export", "predict"]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    out = capsys.readouterr().out
    assert "it will export" in out
    assert all(label in out for label in CLASSES)
    assert (folder / "exports" / "keras_model-int8" / "labels.txt").read_text().split() == list(CLASSES)
