"""Teach InceptionV3 new classes, and export what came of it to INT8.

    python examples/finetune_inceptionv3.py photos/train photos/val

Both folders hold one subfolder of pictures a class. The first trains and calibrates, the second judges.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras

from xxdeploy.pipeline import ExportPlan, export
from xxdeploy.runtime import load


def build(classes: int, size: int, weights: str) -> tuple[keras.Model, keras.Model]:
    """Return the model, and InceptionV3 in it. The model scales the pixels itself, so the export need not be told."""
    weights_of = None if weights == "none" else weights
    base = keras.applications.InceptionV3(
        include_top=False, pooling="avg", weights=weights_of, input_shape=(size, size, 3)
    )
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.RandomFlip("horizontal")(image)  # in training only
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = base(x, training=False)  # batch normalisation keeps its statistics
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="kinds")(x), name="mine"), base


def settle(base: keras.Model, pictures: Any) -> None:
    """Give random weights the statistics of batch normalisation, which those of ImageNet bring."""
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # a few batches have to do
    for batch, _ in pictures:
        base(batch / 127.5 - 1.0, training=True)


def train(model: keras.Model, base: keras.Model, pictures: Any, steps: int) -> None:
    """Train the new classifier; then, gently, the last block below it, too."""
    last_block = next(index for index, layer in enumerate(base.layers) if layer.name == "mixed9")
    for name, frozen, rate in (("classifier", len(base.layers), 1e-2), ("last block", last_block, 1e-4)):
        for index, layer in enumerate(base.layers):
            layer.trainable = index >= frozen
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(pictures.repeat(), steps_per_epoch=steps, shuffle=False, verbose=0).history
        print(f"{name}: {100 * history['accuracy'][-1]:.1f} % right in training")


def main() -> None:
    """Train, save, export, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet", help="none: random ones")
    parser.add_argument("--input-size", type=int, default=299, help="pixels, 75 or more")
    parser.add_argument("--steps", type=int, default=200, help="batches of 16, of the classifier and of the last block")
    parser.add_argument("--out", type=Path, default=Path("exports/inceptionv3-mine-int8"))
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    size = arguments.input_size
    pictures = keras.utils.image_dataset_from_directory(arguments.train, image_size=(size, size), batch_size=16)
    model, base = build(len(pictures.class_names), size, arguments.weights)
    if arguments.weights == "none":
        settle(base, pictures)
    train(model, base, pictures, arguments.steps)
    file = arguments.out.with_suffix(".keras")
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)

    plan = ExportPlan("int8", calibration=arguments.train, evaluation=arguments.val, max_drop=5.0, force=True)
    result = export(file, plan, arguments.out)
    for row in result.rows:
        print(f"{row.runner}: top-1 {100 * (row.top1 or 0):.1f} %, {row.latency_p50_ms:.1f} ms an image")

    runtime = load(result.bundle)
    for folder in sorted(path for path in arguments.val.iterdir() if path.is_dir()):
        best = runtime.predict(min(folder.iterdir()), top=1)[0]
        print(f"a picture of {folder.name}: {best.label} ({best.probability:.2f})")


if __name__ == "__main__":
    main()
