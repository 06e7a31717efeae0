"""Train user models, export them from their files to INT8, and print the loss in top-1 of each.

    python benchmarks/own_models.py [mobilenetv2 resnet50v1.5 residual] [--work FOLDER] [--images N] [--steps N]

Three networks learn to classify drawn shapes in a short training, are saved, and exported by the command line as a user
would: `xxdeploy export FILE --int8 --calibration .. --eval .. --max-drop 1.0 [--preprocess ..]`. The script draws the
images, with enough noise that none is trivial; those for training, calibration and evaluation have different seeds.

- `mobilenetv2`: ImageNet weights (Keras' cache, or its download), 160 px, 19 classes; a new classifier, then the last
  blocks as well; an .h5 file.
- `resnet50v1.5`: a family of xxdeploy, from random weights, torch preprocessing; a .keras file.
- `residual`: a small residual network for 32 x 32 pixels of 0..255; a .keras file.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHAPES = (
    "arrow", "bar", "circle", "cross", "diamond", "frame", "half", "hexagon", "ell", "moon",
    "pentagon", "plus", "ring", "square", "star4", "star5", "tee", "triangle", "wedge",
)  # fmt: skip
Pictures = NDArray[np.uint8]


def polygon(corners: int, inner: float = 1.0, turn: float = -90.0) -> list[tuple[float, float]]:
    """Return the corners of a regular polygon of radius 1, or of a star whose notches have radius ``inner``."""
    points = corners if inner == 1.0 else 2 * corners
    angles = [math.radians(turn + 360 * index / points) for index in range(points)]
    radii = [1.0 if inner == 1.0 or index % 2 == 0 else inner for index in range(points)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in zip(radii, angles, strict=True)]


_T = 0.35
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "arrow": [(-1, -_T / 2), (0.1, -_T / 2), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, _T / 2), (-1, _T / 2)],
    "bar": [(-1, -_T), (1, -_T), (1, _T), (-1, _T)],
    "circle": polygon(40),
    "cross": [(x * 0.707 - y * 0.707, x * 0.707 + y * 0.707) for x, y in (
        (-1, -_T), (-_T, -_T), (-_T, -1), (_T, -1), (_T, -_T), (1, -_T), (1, _T), (_T, _T), (_T, 1), (-_T, 1),
        (-_T, _T), (-1, _T))],
    "diamond": polygon(4),
    "frame": polygon(4, turn=-45),
    "half": [(math.cos(math.radians(a)), math.sin(math.radians(a)) + 0.5) for a in range(180, 361, 10)],
    "hexagon": polygon(6),
    "ell": [(-0.7, -1), (-0.1, -1), (-0.1, 0.4), (0.8, 0.4), (0.8, 1), (-0.7, 1)],
    "moon": polygon(40),
    "pentagon": polygon(5),
    "plus": [
        (-1, -_T), (-_T, -_T), (-_T, -1), (_T, -1), (_T, -_T), (1, -_T), (1, _T), (_T, _T), (_T, 1), (-_T, 1),
        (-_T, _T), (-1, _T)],
    "ring": polygon(40),
    "square": polygon(4, turn=-45),
    "star4": polygon(4, 0.4),
    "star5": polygon(5, 0.4),
    "tee": [(-0.9, -0.9), (0.9, -0.9), (0.9, -0.3), (0.3, -0.3), (0.3, 1), (-0.3, 1), (-0.3, -0.3), (-0.9, -0.3)],
    "triangle": polygon(3),
    "wedge": [(0, 0.6), *((math.cos(math.radians(a)), math.sin(math.radians(a)) + 0.6) for a in range(225, 316, 9))],
}  # fmt: skip
HOLES: dict[str, tuple[list[tuple[float, float]], float, float]] = {
    "frame": (polygon(4, turn=-45), 0.6, 0.0), "ring": (polygon(40), 0.6, 0.0), "moon": (polygon(40), 0.85, 0.5)
}  # fmt: skip


def draw(shape: str, size: int, numbers: np.random.Generator, noise: float) -> Pictures:
    """Return an image (size, size, 3) of a shape at a random place before a blurred background, under noise."""
    low, high = ((0, 140), (115, 256))[int(numbers.integers(2))]
    back = numbers.integers(low, high, (5, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(back).resize((4 * size, 4 * size), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    radius = 4 * size * numbers.uniform(0.18, 0.34)
    x, y = (numbers.uniform(radius, 4 * size - radius) for _ in range(2))
    angle = math.radians(numbers.uniform(-15, 15))
    dark = back.mean(axis=(0, 1)) < 128  # of the background: what is drawn before it stands out
    colors = [
        tuple(int(value) for value in np.where(dark == (index == 0), 255 - dim, dim))
        for index, dim in enumerate(numbers.integers(0, 60, (2, 3)))
    ]

    def placed(points: list[tuple[float, float]], scale: float, shift: float) -> list[tuple[float, float]]:
        grown = [(radius * (scale * a + shift), radius * scale * b) for a, b in points]
        cos, sin = math.cos(angle), math.sin(angle)
        return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in grown]

    pen.polygon(placed(OUTLINES[shape], 1.0, 0.0), fill=colors[0])
    if shape in HOLES:
        pen.polygon(placed(*HOLES[shape]), fill=colors[1])
    pixels = np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float32)
    return (pixels + numbers.normal(0, noise, pixels.shape)).clip(0, 255).astype(np.uint8)


def write(folder: Path, shapes: tuple[str, ...], size: int, count: int, seed: int, noise: float) -> Path:
    """Write ``count`` images, one subfolder for each shape; existing files are kept."""
    numbers = np.random.default_rng(seed)
    for index in range(count):
        shape = shapes[index % len(shapes)]
        path = folder / shape / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw(shape, size, numbers, noise)
        if not path.exists():
            Image.fromarray(pixels).save(path)
    return folder


def arrays(shapes: tuple[str, ...], size: int, count: int, seed: int, noise: float) -> tuple[Any, Any]:
    """Return images (count, size, size, 3) float32, 0..255, and their classes."""
    numbers = np.random.default_rng(seed)
    classes = np.arange(count) % len(shapes)
    return np.stack([draw(shapes[index], size, numbers, noise) for index in classes]).astype(np.float32), classes


def fit(model: Any, images: Any, classes: Any, rate: float, steps: int) -> None:
    """Train for ``steps`` batches of 32, with a cosine learning rate."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    epochs = max(1, round(steps * 32 / len(images)))
    model.fit(images, classes, batch_size=32, epochs=epochs, verbose=0)


def mobilenetv2(images: Any, classes: Any, steps: int) -> Any:
    """Return MobileNetV2 of ImageNet with a new classifier, trained together with the last blocks."""
    size, count = images.shape[1], int(classes.max()) + 1
    whole = keras.applications.MobileNetV2()  # the weights of 224 pixels, so that one file serves all sizes
    options: Any = {"include_top": False, "pooling": "avg", "weights": None, "input_shape": (size, size, 3)}
    base = keras.applications.MobileNetV2(**options)
    for layer in base.layers:
        if layer.weights:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
    inputs = images / 127.5 - 1
    head = keras.layers.Dense(count, activation="softmax", name="shapes")
    features = base.predict(inputs, batch_size=32, verbose=0)
    fit(keras.Sequential([keras.Input(features.shape[1:]), head]), features, classes, 3e-3, 4 * steps)
    model = keras.Model(base.input, head(keras.layers.Dropout(0.2)(base.output)), name="shapes160")
    start = next(index for index, layer in enumerate(base.layers) if layer.name == "block_13_expand")
    for index, layer in enumerate(base.layers):
        layer.trainable = index >= start and not isinstance(layer, keras.layers.BatchNormalization)
    fit(model, inputs, classes, 1e-3, steps)
    return model


def resnet50(images: Any, classes: Any, steps: int) -> Any:
    """Return ResNet50 v1.5 from random weights; a short training needs batch normalization with a short memory."""
    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.models.catalog import BuildOptions, find

    options = BuildOptions(classes=int(classes.max()) + 1, input_size=images.shape[1])
    model = build_model(find("resnet50v1.5"), weights="none", options=options)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    inputs = (images / 255 - np.array((0.485, 0.456, 0.406))) / np.array((0.229, 0.224, 0.225))
    fit(model, inputs.astype(np.float32), classes, 1e-3, steps)
    return model


def residual(images: Any, classes: Any, steps: int) -> Any:
    """Return a residual network with 3 stages of 16, 32 and 64 channels, for unscaled pixels."""
    layers = keras.layers
    image = keras.Input(images.shape[1:])
    x = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(16, 3, padding="same", use_bias=False)(image))
    x = layers.ReLU()(x)
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
        y = layers.BatchNormalization(momentum=0.9)(y)
        if stride > 1:
            x = layers.Conv2D(width, 1, stride, use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(int(classes.max()) + 1, activation="softmax")(x), name="tiny_residual")
    fit(model, images, classes, 3e-3, 2 * steps)
    return model


@dataclass(frozen=True, slots=True)
class Case:
    """A network, its training images, and the options of its export."""

    build: Callable[[Any, Any, int], Any]
    shapes: tuple[str, ...]
    size: int
    noise: float
    suffix: str
    preprocess: str
    times: int = 1  # as many pictures to learn from and steps as the command line says: small ones are cheap


CASES = {
    "mobilenetv2": Case(mobilenetv2, SHAPES, 160, 35.0, ".h5", "tf"),
    "resnet50v1.5": Case(resnet50, SHAPES[::4], 64, 20.0, ".keras", "torch"),
    "residual": Case(residual, SHAPES[::2], 32, 15.0, ".keras", "none", times=4),
}


def main() -> None:
    """Train, save and export each, and print one line of figures for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=(*CASES, []), default=list(CASES))
    parser.add_argument("--work", type=Path, default=Path("exports/own-models"))
    parser.add_argument("--images", type=int, default=1900, help="training images")
    parser.add_argument("--steps", type=int, default=150, help="batches of 32; four times as many for small images")
    parser.add_argument("--eval-images", type=int, default=1000)
    arguments = parser.parse_args()
    failed = False
    for name in arguments.cases:
        case, work = CASES[name], arguments.work / name
        keras.utils.set_random_seed(0)
        images, classes = arrays(case.shapes, case.size, case.times * arguments.images, 1, case.noise)
        file = work / f"{name}{case.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        case.build(images, classes, case.times * arguments.steps).save(file)
        calibration = write(work / "calibration", case.shapes, case.size, 320, 2, case.noise)
        evaluation = write(work / "eval", case.shapes, case.size, arguments.eval_images, 3, case.noise)
        asked = [file, "--int8", "--calibration", calibration, "--eval", evaluation, "--max-drop", 1.0]
        asked += ["--preprocess", case.preprocess, "--out", work / "bundle", "--force", "--json"]
        command = [sys.executable, "-m", "xxdeploy", "export", *map(str, asked)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            print(f"{name}: export failed with status {run.returncode}", flush=True)
            failed = True
            continue
        rows = {row["runner"]: row for row in json.loads(run.stdout)["rows"]}
        said = ", ".join(f"{runner} {100 * row['top1']:.1f} %" for runner, row in rows.items())
        worst = min(row["top1"] for row in rows.values()) - rows["keras"]["top1"]
        print(f"{name}: top-1 {said}; at worst {100 * worst:+.1f} points on {arguments.eval_images} images", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
