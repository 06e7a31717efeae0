"""Files and layers of any name go from the file to a prediction; so does a model that is meant to scale twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import user_nets
from PIL import Image
from user_nets import old_functional, old_h5, old_input, old_layer, reads

from xxdeploy.cli import main
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.runtime import load

Capture = pytest.CaptureFixture[str]
LONG = "x" * 200


def of_keras_3(path: Path) -> Path:
    """Write layers with blanks, Cyrillic and 200 characters. Keras 3 itself refuses slashes."""
    keras = load_keras()
    image = keras.Input((16, 16, 3), name="Eingang_ä")
    tensor = keras.layers.Conv2D(4, 3, activation="relu", name="слой 1 (conv)")(image)
    tensor = keras.layers.Conv2D(4, 3, activation="relu", name=LONG)(tensor)
    tensor = keras.layers.GlobalAveragePooling2D(name="output")(tensor)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="input")(tensor), name="сеть 1")
    return user_nets.saved(user_nets.shaken(model), path)


def of_keras_2(path: Path) -> Path:
    """Write layers with slashes, backslashes, blanks and 200 characters."""
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> dict[str, np.ndarray]:
        kernel, bias = random.normal(0, 0.3, shape), random.normal(0, 0.3, shape[-1])
        return {f"{name}/kernel:0": kernel.astype("f4"), f"{name}/bias:0": bias.astype("f4")}

    layers = [
        old_input("bild 1", 16, 16, 3),
        old_layer("block/conv 1", "Conv2D", reads("bild 1"), filters=4, kernel_size=[3, 3], activation="relu"),
        old_layer("block\\слой", "Conv2D", reads("block/conv 1"), filters=4, kernel_size=[3, 3]),
        old_layer(LONG, "GlobalAveragePooling2D", reads("block\\слой")),
        old_layer("a/b", "Dense", reads(LONG), units=3, activation="softmax"),
    ]
    stored = {
        "block/conv 1": weights("block/conv 1", 3, 3, 3, 4),
        "block\\слой": weights("c", 3, 3, 4, 4),
        "a/b": weights("a/b", 4, 3),
    }
    return old_h5(path, old_functional("модель/1", layers), stored)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)).save(path)
    return path


def renamed(path: Path, name: bytes) -> Path:
    """Give a file a name that may not be UTF-8; skip where the file system refuses it."""
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/" + name))
    try:
        path.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return odd


@pytest.mark.parametrize(("write", "name"), [(of_keras_3, b"mod\xe9l 1.keras"), (of_keras_2, b"\xff\xfe.h5")])
def test_odd_names_of_files_and_layers(write: Any, name: bytes, tmp_path: Path, photo: Path, capsys: Capture) -> None:
    model, bundle = renamed(write(tmp_path / f"plain{Path(os.fsdecode(name)).suffix}"), name), str(tmp_path / "bundle")
    commands = [
        ["inspect", str(model)],
        ["export", str(model), "--preprocess", "none", "--out", bundle],
        ["verify", bundle],
        ["inspect", bundle],
        ["predict", bundle, str(photo)],
        ["report", bundle],
    ]
    for words in commands:
        assert main(words) == 0, (words[0], capsys.readouterr())
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        (out + err).encode()  # a surrogate of the file's name would raise
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["name"].isascii()


def test_pixels_can_be_scaled_twice_if_the_training_did_so(tmp_path: Path, photo: Path, capsys: Capture) -> None:
    model = user_nets.net(lambda layers, image: layers.Conv2D(4, 3, name="c")(layers.Rescaling(1 / 255.0)(image)))
    path, bundle = user_nets.saved(model, tmp_path / "twice.keras"), tmp_path / "bundle"
    asked = ["export", str(path), "--preprocess", "tf", "--out", str(bundle)]
    assert main(asked) == 2
    assert "error[scaled-twice]" in capsys.readouterr().err
    assert not bundle.exists()
    assert main([*asked, "--scale-twice"]) == 0
    assert capsys.readouterr().out.startswith("WARNING: pixels are scaled twice: by --preprocess tf, then by the model")
    pixels = np.asarray(Image.open(photo).resize((16, 16), Image.Resampling.BILINEAR), np.float32)
    expected = np.asarray(model(pixels[None] / 127.5 - 1))
    np.testing.assert_allclose(load(bundle).probabilities([photo]), expected, atol=1e-5)
