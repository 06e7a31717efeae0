"""The examples, as a user runs them, on random weights and made pictures."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xxdeploy.runtime import load

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
COLORS = ("red", "green", "blue")
Run = Callable[..., str]


def _draw(root: Path, count: int, seed: int) -> Path:
    """Write ``count`` cloudy pictures of each color into a folder of its own."""
    numbers = np.random.default_rng(seed)
    for channel, color in enumerate(COLORS):
        (root / color).mkdir(parents=True)
        for index in range(count):
            clouds = numbers.integers(0, 150, (6, 6, 3), dtype=np.uint8)
            clouds[..., channel] += 100
            picture = Image.fromarray(clouds).resize((80, 80), Image.Resampling.BICUBIC)
            picture.save(root / color / f"{color}-{index}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _draw(tmp_path_factory.mktemp("pictures") / "val", 6, 1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run an example on random weights in this process; returns what it prints. Its bundle is ``tmp_path/out``."""

    def run(name: str, *arguments: object) -> str:
        words = [*map(str, arguments), "--weights", "none", "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", [name, *words])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_classify_with_resnet50(run: Run, pictures: Path, tmp_path: Path) -> None:
    two = [pictures / "red" / "red-0.png", pictures / "blue" / "blue-0.png"]
    out = run("classify_resnet50.py", *two, "--input-size", 64).splitlines()
    assert re.fullmatch(r"onnx-fp32: within \d\.\de-\d\d of keras", out[1])
    assert [out[2], out[6]] == ["red-0.png", "blue-0.png"]
    best = load(tmp_path / "out").predict(two[1], top=3)
    assert out[7:] == [f"  {each.probability:.3f}  {each.label}" for each in best]


def test_features_from_vgg16(run: Run, pictures: Path) -> None:
    names = ("red-0", "blue-0", "red-1")
    out = run("features_vgg16.py", *(pictures / name[:-2] / f"{name}.png" for name in names), "--input-size", 32)
    first, *ranked = out.splitlines()
    assert first == "512 features of each of 3 pictures"
    assert [line.split()[1] for line in ranked] == ["red-1.png", "blue-0.png"]
    assert float(ranked[0].split()[0]) > 0.95


def test_an_inner_layer_of_vgg19(run: Run, pictures: Path, tmp_path: Path) -> None:
    import keras

    picture = pictures / "green" / "green-0.png"
    first, *strongest = run("inner_layer_vgg19.py", picture, "--input-size", 64).splitlines()
    assert first == "block4_pool returns 512 maps of 4 x 4"
    model = keras.models.load_model(tmp_path / "out.keras")
    inner = keras.Model(model.input, model.get_layer("block4_pool").output)
    pixels = np.asarray(Image.open(picture).resize((64, 64), Image.Resampling.BILINEAR), np.float32)
    mean = inner(keras.applications.vgg19.preprocess_input(pixels[None])).numpy().mean(axis=(0, 1, 2))
    channel, strength = re.findall(r"map (\d+): (\d+\.\d+)", strongest[0])[0]
    assert int(channel) == mean.argmax()
    assert float(strength) == pytest.approx(mean.max(), rel=0.02)


@pytest.mark.slow
def test_inceptionv3_on_new_classes(run: Run, pictures: Path, tmp_path: Path) -> None:
    train = _draw(tmp_path / "train", 22, 0)
    out = run("finetune_inceptionv3.py", train, pictures, "--input-size", 75, "--steps", 4, "--effort", "quick")
    top1 = {name: float(share) for name, share in re.findall(r"^(\S+): top-1 (\S+) %", out, re.MULTILINE)}
    assert {"keras", "onnx-fp32", "onnx-int8"} <= top1.keys()
    assert top1["keras"] >= 90
    assert top1["onnx-int8"] >= top1["keras"] - 5
    assert re.findall(r"a picture of (\w+): (\w+)", out) == [(color, color) for color in sorted(COLORS)]
    runtime = load(tmp_path / "out", selftest=True)
    assert runtime.labels == ("blue", "green", "red")
    assert runtime.manifest.source["family"] == "inceptionv3"
    said = str(runtime.manifest.evidence["parity"])
    assert all(f"'candidate': '{stage}'" in said for stage in ("onnx-fp32, unoptimized", "onnx-fp32", "onnx-int8"))
