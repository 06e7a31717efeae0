"""Pictures whose class can only be told by the pipeline that the network was made for, and networks that tell it.

A network here names the class whose mean is nearest (R, G and B of the picture, and its contrast). The means are those
of the class under one pipeline, so another one moves the pictures away from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.runtime.image.preprocess import Preprocess

SIDE = 24
_RATIO = 1.5


def lines(random: np.random.Generator, kind: int) -> NDArray[np.uint8]:
    """Fine noise with a contrast that grows with the class: each filter that shrinks it keeps another part of it."""
    size = 4 * SIDE, 4 * SIDE, 1
    return _picture(128 + 14 * _RATIO**kind * random.choice([-1.0, 1.0], size) * np.ones(3))


def colors(random: np.random.Generator, kind: int) -> NDArray[np.uint8]:
    """Red or blue, more of it with each second class."""
    strength, pixels = 25.0 * (1 + kind // 2), np.full((SIDE, SIDE, 3), 90.0)
    pixels[..., 0 if kind % 2 else 2] += strength
    return _picture(pixels + random.normal(0, 4, pixels.shape))


def edges(random: np.random.Generator, kind: int) -> NDArray[np.uint8]:
    """A wide picture whose outer quarters are brighter with each class; the middle says nothing."""
    pixels = np.full((2 * SIDE, 4 * SIDE, 3), 20.0)
    pixels[:, :SIDE] = pixels[:, -SIDE:] = 20 + 20 * _RATIO**kind
    return _picture(pixels + random.normal(0, 3, pixels.shape))


def plain(random: np.random.Generator, kind: int) -> NDArray[np.uint8]:
    """Noise that has nothing to do with the class."""
    return _picture(128 + random.normal(0, 40, (SIDE, SIDE, 3)) + 0 * kind)


def _picture(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def write(root: Path, task: Any, names: Sequence[str], count: int = 12) -> Path:
    """Write ``count`` pictures of each class into folders; ``names`` are the classes in the order of the outputs."""
    random = np.random.default_rng(0)
    for kind, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(task(random, kind)).save(root / name / f"{number}.png")
    return root


def features(batch: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Return (n, 4): the means of the channels, and the contrast of neighbors in the first one."""
    contrast = np.abs(np.diff(batch[..., :1], axis=2)).mean((1, 2))
    return np.concatenate([batch.mean((1, 2)), contrast], 1) * np.float32(scale)


class NearestMean:
    """A network that was made on pictures below ``root`` under ``preprocess``."""

    name = "nearest mean"

    def __init__(self, root: Path, names: Sequence[str], preprocess: Preprocess) -> None:
        batches = [preprocess.batch(sorted((root / name).iterdir())) for name in names]
        self.scale = 1 / max(float(np.abs(batch).max()) for batch in batches)
        self.means = np.stack([features(batch, self.scale).mean(0) for batch in batches])

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        distance = np.square(features(batch, self.scale)[:, None] - self.means).sum(2)
        return np.asarray(-distance, np.float32)

    def save(self, path: Path) -> Path:
        """Write it as a Keras model."""
        import keras
        from user_nets import saved

        image = keras.Input((SIDE, SIDE, 3))
        means = keras.layers.GlobalAveragePooling2D()(image)
        difference = keras.layers.Conv2D(2, (1, 2), use_bias=False, activation="relu", name="edge")
        summed = keras.layers.Dense(1, use_bias=False, name="sum")
        contrast = summed(keras.layers.GlobalAveragePooling2D()(difference(image)))
        joined = keras.layers.Concatenate()([means, contrast])
        model = keras.Model(image, keras.layers.Dense(len(self.means), "softmax", name="head")(joined))
        kernel = np.zeros((1, 2, 3, 2), np.float32)
        kernel[0, :, 0] = [[-1, 1], [1, -1]]
        difference.set_weights([kernel])
        summed.set_weights([np.ones((2, 1), np.float32)])
        sharp = 500.0
        model.get_layer("head").set_weights(
            [2 * sharp * self.scale * self.means.T, -sharp * np.square(self.means).sum(1)]
        )
        return saved(model, path)
