"""Train a network that reads drawn captchas, export it in INT8, and compare what both read on 500 other pictures.

    python benchmarks/captcha.py [--work FOLDER] [--pictures 5000] [--epochs 8] [--held-back 500]

The network is a CRNN (Shi et al. 2015, arXiv:1507.05717) of about 200,000 weights: convolutions, two bidirectional
LSTM layers over the columns, a softmax over the characters and a blank for each column. The script draws the pictures
in Pillow's own font, so it knows where each character stands: the column at its middle learns the character, all
others the blank. That takes a tenth of the steps of a CTC loss, and is decoded in the same way. The pictures for
training, calibration and evaluation have different seeds. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from xxdeploy.convert.keras_loader import load_keras

ALPHABET = "2345678bcdefgmnpwxy"
HEIGHT, WIDTH, LONGEST, STEPS = 32, 128, 6, 32


def draw(random: np.random.Generator) -> tuple[NDArray[np.uint8], str, NDArray[np.int32]]:
    """Return a gray picture (32, 128) and the 4 to 6 characters on it: turned, shifted, crossed by lines, noisy.

    The third value has the class of each of the 32 columns.
    """
    columns = np.full(STEPS, len(ALPHABET), np.int32)
    text = "".join(random.choice(list(ALPHABET), random.integers(4, LONGEST + 1)))
    paper = int(random.integers(190, 256))
    picture = Image.new("L", (WIDTH, HEIGHT), paper)
    left = random.uniform(2, WIDTH - 20 * len(text))
    for letter in text:
        tile = Image.new("L", (28, 28), 0)
        font = ImageFont.load_default(float(random.uniform(18, 23)))
        ImageDraw.Draw(tile).text((14, 14), letter, 255, font, anchor="mm")
        tile = tile.rotate(float(random.uniform(-20, 20)), Image.Resampling.BILINEAR)
        ink = int(random.integers(0, 100))
        picture.paste(ink, (int(left - 4), int(random.integers(-2, 6))), tile)
        columns[min(int((left + 10) * STEPS / WIDTH), STEPS - 1)] = ALPHABET.index(letter)
        left += random.uniform(15, 20)
    pen = ImageDraw.Draw(picture)
    for _ in range(random.integers(0, 3)):
        ends = random.uniform((0, 0, 0, 0), (WIDTH, HEIGHT, WIDTH, HEIGHT))
        pen.line([tuple(ends[:2]), tuple(ends[2:])], int(random.integers(60, 160)))
    noisy = np.asarray(picture, np.float32) + random.normal(0, 8, (HEIGHT, WIDTH))
    return noisy.clip(0, 255).astype(np.uint8), text, columns


def drawn(count: int, seed: int) -> tuple[NDArray[np.uint8], list[str], NDArray[np.int32]]:
    """Return ``count`` pictures, (n, 32, 128, 1), their texts, and the classes of their columns, (n, 32)."""
    random = np.random.default_rng(seed)
    pictures, texts, columns = zip(*(draw(random) for _ in range(count)), strict=True)
    return np.stack(pictures)[..., None], list(texts), np.stack(columns)


def network() -> Any:
    """Return the untrained network: pictures of 0..255, for each of 32 columns a softmax over characters and blank."""
    layers = load_keras().layers
    image = x = load_keras().Input((HEIGHT, WIDTH, 1), name="image")
    x = layers.Rescaling(1 / 255)(x)
    for filters, pool in ((16, (2, 2)), (32, (2, 2)), (64, (2, 1))):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(pool)(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Permute((2, 1, 3))(x)
    x = layers.Dense(64, activation="relu")(layers.Reshape((WIDTH // 4, 4 * 64))(x))
    x = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(x)
    return load_keras().Model(image, layers.Dense(len(ALPHABET) + 1, "softmax", name="text")(x), name="captcha")


def train(model: Any, pictures: NDArray[np.uint8], columns: NDArray[np.int32], epochs: int) -> None:
    """Minimize the cross-entropy of the columns with Adam and a cosine schedule."""
    keras, batch = load_keras(), 32
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, epochs * -(-len(pictures) // batch))
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), "sparse_categorical_crossentropy")
    for epoch in range(epochs):
        start = time.perf_counter()
        seen = model.fit(pictures.astype(np.float32), columns, batch, verbose=0)
        print(f"epoch {epoch + 1}: loss {seen.history['loss'][0]:.4f}, {time.perf_counter() - start:.0f} s", flush=True)


def written(folder: Path, pictures: NDArray[np.uint8], texts: list[str]) -> Path:
    """Write pictures as PNG files with a labels.csv (file name, text)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label"))
        for index, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            Image.fromarray(picture[..., 0]).save(folder / f"{index:05}.png")
            rows.writerow((f"{index:05}.png", text))
    return folder


def main() -> None:
    """Train, export, and print the closing table of the export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("exports/captcha"))
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--held-back", type=int, default=500)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    file, labels = asked.work / "captcha.keras", asked.work / "alphabet.txt"
    labels.write_text("\n".join(ALPHABET) + "\n", encoding="utf-8")
    if not file.exists():
        model = network()
        print(f"{model.count_params():,} weights")
        pictures, _, columns = drawn(asked.pictures, 0)
        train(model, pictures, columns, asked.epochs)
        model.save(file)
    calibration = written(asked.work / "calibration", *drawn(300, 1)[:2])
    evaluation = written(asked.work / "evaluation", *drawn(asked.held_back, 2)[:2])
    command = [sys.executable, "-m", "xxdeploy", "export", str(file), "--task", "sequence", "--labels", str(labels)]
    command += ["--ctc-blank", "last", "--int8", "--calibration", str(calibration), "--eval", str(evaluation)]
    command += ["--out", str(asked.work / "bundle"), "--force"]
    subprocess.run(command, check=True)
    manifest = json.loads((asked.work / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    print(json.dumps(manifest["evidence"]["accuracy"], indent=1))


if __name__ == "__main__":
    main()
