"""Write the captcha network of Keras' example image_ocr.py by Keras 2, for ``keras2_writer``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from keras2_writer import SEED, layers


def ctc_lambda_func(args: Any) -> Any:
    y_pred, labels, input_length, label_length = args
    y_pred = y_pred[:, 2:, :]
    return K.ctc_batch_cost(labels, y_pred, input_length, label_length)  # type: ignore[name-defined]  # noqa: F821


def write_image_ocr(folder: Path) -> None:
    """Write the network of Keras' example image_ocr.py, smaller: its loss is a Lambda with four inputs."""
    import tf_keras

    globals()["K"] = tf_keras.backend  # the name in the example, which imports it at the top
    kinds, width, height = layers(), 20, 8

    image = kinds.Input(name="the_input", shape=(width, height, 1), dtype="float32")
    x = kinds.Conv2D(4, (3, 3), padding="same", activation="relu", name="conv1")(image)
    x = kinds.MaxPooling2D(pool_size=(2, 2), name="max1")(x)
    x = kinds.Reshape(target_shape=(width // 2, height // 2 * 4), name="reshape")(x)
    x = kinds.Dense(8, activation="relu", name="dense1")(x)
    gru = {"return_sequences": True, "kernel_initializer": "he_normal"}
    one, back = kinds.GRU(6, name="gru1", **gru)(x), kinds.GRU(6, go_backwards=True, name="gru1_b", **gru)(x)
    x = kinds.concatenate([one, back])
    y_pred = kinds.Activation("softmax", name="softmax")(kinds.Dense(4, name="dense2")(x))
    rng = np.random.default_rng(SEED)
    network = tf_keras.Model(image, y_pred)
    network.set_weights([rng.normal(0, 1, array.shape) for array in network.get_weights()])
    pixels = np.kron(rng.integers(0, 256, (4, 5, 2, 1)), np.ones((1, 4, 4, 1)))
    y = network.predict(pixels.astype(np.float32) / 255, verbose=0)
    np.savez(folder / "image-ocr.npz", pixels=pixels.astype(np.uint8), y=y)
    others = [kinds.Input(name="the_labels", shape=[16], dtype="float32")]
    others += [kinds.Input(name=name, shape=[1], dtype="int64") for name in ("input_length", "label_length")]
    loss = kinds.Lambda(ctc_lambda_func, output_shape=(1,), name="ctc")([y_pred, *others])
    model = tf_keras.Model(inputs=[image, *others], outputs=loss)
    model.compile(loss={"ctc": lambda _, y_pred: y_pred}, optimizer="sgd")
    model.save(folder / "image-ocr.h5")
    model.save(folder / "image-ocr.keras")
