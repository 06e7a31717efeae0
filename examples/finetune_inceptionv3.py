"""Fine-tune InceptionV3 on new classes, and export the result to INT8.

    python examples/finetune_inceptionv3.py photos/train photos/val

Both folders contain one subfolder of images for each class. The first is for training and calibration, the second for
evaluation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np

from xxdeploy.exporter import ExportOptions, export
from xxdeploy.runtime import load


def build(classes: int, size: int, weights: str) -> tuple[keras.Model, keras.Model]:
    """Return the model, and the InceptionV3 inside it. The model scales pixels, so the export needs no --preprocess."""
    weights_of = None if weights == "none" else weights
    base = keras.applications.InceptionV3(
        include_top=False, pooling="avg", weights=weights_of, input_shape=(size, size, 3)
    )
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.RandomFlip("horizontal")(image)  # in training only
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = base(x, training=False)  # batch normalization keeps its statistics
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="kinds")(x), name="mine"), base


def initialize(base: keras.Model) -> None:
    """Draw random weights that keep the size of a signal (He et al. 2015, arXiv:1502.01852).

    Batch normalization stays an identity. Statistics of a few images would amplify the rounding of float32 from layer
    to layer (Yang et al. 2019, arXiv:1902.08129): the outputs of a random network would differ a hundred times more.
    """
    for layer in base.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(keras.initializers.HeNormal(seed=0)(layer.kernel.shape))


def train(model: keras.Model, base: keras.Model, pictures: Any, steps: int) -> None:
    """Train the new classifier, then the last block of InceptionV3 with a small learning rate."""
    kinds = model.get_layer("kinds")
    below = keras.Model(model.input, kinds.input)
    looked_at = [(below(batch, training=False), classes) for batch, classes in pictures]
    features, classes = (np.concatenate(each) for each in zip(*looked_at, strict=True))
    classifier = keras.Sequential([keras.Input(features.shape[1:]), kinds])  # on fixed features, which is fast
    classifier.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = classifier.fit(features, classes, epochs=100, verbose=0).history
    print(f"classifier: {100 * history['accuracy'][-1]:.1f} % correct in training")

    last_block = next(index for index, layer in enumerate(base.layers) if layer.name == "mixed9")
    for layer in base.layers[:last_block]:
        layer.trainable = False
    model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(pictures.repeat(), steps_per_epoch=steps, shuffle=False, verbose=0).history
    print(f"last block: {100 * history['accuracy'][-1]:.1f} % correct in training")


def main() -> None:
    """Train, save, export, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet", help="none: random weights")
    parser.add_argument("--input-size", type=int, default=299, help="pixels, 75 or more")
    parser.add_argument("--steps", type=int, default=200, help="batches of 16, for the last block")
    parser.add_argument("--effort", choices=("quick", "normal", "thorough"), default="normal", help="of the export")
    parser.add_argument("--out", type=Path, default=Path("exports/inceptionv3-mine-int8"))
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    size = arguments.input_size
    pictures = keras.utils.image_dataset_from_directory(arguments.train, image_size=(size, size), batch_size=16)
    model, base = build(len(pictures.class_names), size, arguments.weights)
    if arguments.weights == "none":
        initialize(base)
    train(model, base, pictures, arguments.steps)
    file = arguments.out.with_suffix(".keras")
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)

    plan = ExportOptions.of(
        "int8",
        calibration=arguments.train,
        evaluation=arguments.val,
        max_drop=5.0,
        effort=arguments.effort,
        force=True,
    )
    result = export(file, plan, arguments.out)
    for row in result.rows:
        print(f"{row.runner}: top-1 {100 * (row.top1 or 0):.1f} %, {row.latency_p50_ms:.1f} ms an image")

    runtime = load(result.bundle)
    for folder in sorted(path for path in arguments.val.iterdir() if path.is_dir()):
        best = runtime.predict(min(folder.iterdir()), top=1)[0]
        print(f"a picture of {folder.name}: {best.label} ({best.probability:.2f})")


if __name__ == "__main__":
    main()
