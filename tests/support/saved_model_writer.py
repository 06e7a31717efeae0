"""Write SavedModel folders as Keras 2 does, with their right answers: ``python saved_model_writer.py FOLDER``.

Runs in a process of its own, since it imports tf_keras, which is Keras 2 on today's TensorFlow. Next to each folder it
writes ``NAME.npz`` with the images ``x`` and the answers ``y0``, ``y1``, ... of the folder's signature.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np


def plain(keras: Any, name: str = "small") -> Any:
    """Return a classifier with most of what a network of images has."""
    kinds = keras.layers
    image = keras.Input((24, 20, 3), name="picture")
    x = kinds.Rescaling(1 / 127.5, -1)(image)
    x = kinds.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(x)
    x = kinds.BatchNormalization(name="bn1")(x)
    x = kinds.ReLU(name="relu1")(x)
    branch = kinds.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = kinds.Add(name="sum")([x, branch])
    x = kinds.Dropout(0.5)(kinds.MaxPooling2D(name="pool")(x))
    x = kinds.Dense(10, activation="softmax", name="classes")(kinds.Flatten(name="flat")(x))
    return keras.Model(image, x, name=name)


def layered(keras: Any, *layers: Any) -> Any:
    image = keras.Input((24, 20, 3))
    x = image
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x, name="layered")


def models(keras: Any) -> dict[str, Any]:
    kinds = keras.layers
    inner = plain(keras, "inner")
    image = keras.Input((24, 20, 3))
    first = inner(image)
    return {
        "plain": plain(keras),
        "two-ends": keras.Model(image, [first, kinds.Dense(4, name="second")(first)], name="outer"),
        "dilated": layered(
            keras,
            kinds.ZeroPadding2D(2),
            kinds.Conv2D(4, 3, dilation_rate=2, padding="same"),
            kinds.DepthwiseConv2D(3, dilation_rate=2, padding="same"),
            kinds.LeakyReLU(0.2),
            kinds.GlobalMaxPooling2D(),
            kinds.Dense(3, "softmax"),
        ),
        "resized": layered(
            keras,
            kinds.UpSampling2D(2, interpolation="bilinear"),
            kinds.Conv2DTranspose(4, 2, strides=3, padding="valid", output_padding=1),
            kinds.Resizing(17, 19, "bicubic"),
            kinds.Resizing(33, 25, "area"),
            kinds.Resizing(30, 31, "lanczos3"),
            kinds.Resizing(12, 11, "nearest"),
            kinds.Conv2D(2, 3),
        ),
        "normalized": layered(
            keras,
            kinds.Conv2D(8, 3),
            kinds.LayerNormalization(),
            kinds.Activation("gelu"),
            kinds.Dense(6),
            kinds.GroupNormalization(2),
            kinds.UnitNormalization(),
            kinds.LayerNormalization(axis=[1, 2, 3]),
            kinds.Reshape((-1, 6)),
            kinds.Dense(5),
            kinds.Flatten(),
            kinds.Dense(4),
        ),
    }


def main(folder: Path) -> None:
    import tensorflow as tf
    import tf_keras

    random = np.random.default_rng(3)
    for name, model in models(tf_keras).items():
        positive = ["variance" in weight.name for weight in model.weights]
        model.set_weights(
            [
                random.uniform(0.5, 2, weight.shape) if above else random.normal(0, 0.3, weight.shape)
                for weight, above in zip(model.weights, positive, strict=True)
            ]
        )
        model.save(str(folder / name), save_format="tf")
        x = random.uniform(0, 255 if name in ("plain", "two-ends") else 1, (3, 24, 20, 3)).astype(np.float32)
        signature = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
        (spec,) = signature.structured_input_signature[1].values()
        given = sorted(signature(**{spec.name: tf.constant(x)}).items())
        outputs: Any = {f"y{index}": np.asarray(y) for index, (_, y) in enumerate(given)}
        np.savez(folder / f"{name}.npz", x=x, **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
