"""Train the sample weights that ship in ``xxdeploy/models/weights``, on Fashion-MNIST. Takes minutes on two cores.

Run it in a checkout with ``xxdeploy[export]`` and Debian's package ``dataset-fashion-mnist``::

    python scripts/train_samples.py [lenet] [mobilenetv2] [--source FOLDER] [--out FOLDER] [--epochs N]

The networks are trained on the training split without the images of the calibration set, and evaluated on the whole
test split. The training is seeded, but the order of TensorFlow's additions depends on its threads, so a second run
yields other weights of the same quality.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from make_sample_set import CALIBRATION, SOURCE, choose, read_split
from numpy.typing import NDArray

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.keras_loader import load_keras, load_tensorflow
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.models.catalog import find
from xxdeploy.models.samples import sample_for
from xxdeploy.runtime.image.preprocess import Preprocess

if TYPE_CHECKING:
    import keras

OUT = Path(__file__).resolve().parent.parent / "xxdeploy" / "models" / "weights"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one network is trained."""

    epochs: int
    rate: float
    decay: float = 1e-4
    batch: int = 128
    shift: int = 1  # pixels of the input


PLANS = {"lenet": Plan(12, 2e-3, shift=1), "mobilenetv2": Plan(6, 4e-3, shift=2)}


def prepare(preprocess: Preprocess, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``(n, h, w, c)`` uint8, as the runtime would decode them."""
    return np.stack([preprocess.image(image) for image in images])


def train(
    model: keras.Model, preprocess: Preprocess, images: NDArray[np.uint8], labels: NDArray[np.uint8], plan: Plan
) -> None:
    """Minimize cross-entropy with AdamW and a cosine schedule, on images that are flipped and shifted at random."""
    keras, tf = load_keras(), load_tensorflow()
    steps = len(images) // plan.batch
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, plan.epochs * steps, warmup_target=plan.rate, warmup_steps=steps // 2
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=plan.decay)
    # A bias or a batch norm's scale has no reason to be small.
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    loss_of = keras.losses.SparseCategoricalCrossentropy()

    def step(x: object, y: object) -> object:
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    traced = tf.function(step, reduce_retracing=True)
    generator = np.random.default_rng(0)
    for epoch in range(plan.epochs):
        start, losses = time.perf_counter(), []
        order = generator.permutation(len(images))
        for number in range(steps):
            chosen = order[number * plan.batch : (number + 1) * plan.batch]
            batch = augment(images[chosen], plan.shift, generator)
            losses.append(float(traced(preprocess.normalize(batch), labels[chosen])))
        seconds = time.perf_counter() - start
        print(f"  epoch {epoch + 1}/{plan.epochs}: loss {np.mean(losses):.4f}, {seconds:.0f} s", flush=True)
    estimate_batch_norm(model, preprocess, images[generator.permutation(len(images))[:12800]])


def augment(images: NDArray[np.uint8], shift: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Flip half of the images and shift the batch's images by up to ``shift`` pixels, black at the border."""
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
    top, left = generator.integers(0, 2 * shift + 1, (2, count))
    rows = top[:, None] + np.arange(height)
    columns = left[:, None] + np.arange(width)
    flipped = generator.random(count) < 0.5
    columns[flipped] = columns[flipped, ::-1]
    moved: NDArray[np.uint8] = padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def estimate_batch_norm(model: keras.Model, preprocess: Preprocess, images: NDArray[np.uint8]) -> None:
    """Set the moving statistics of batch norm to the plain mean over unaltered batches.

    Keras' MobileNetV2 moves them by a thousandth a step, so after a short training they lag behind the weights.
    """
    layers = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for number, start in enumerate(range(0, len(images), 256)):
        for layer in layers:
            layer.momentum = number / (number + 1)
        model(preprocess.normalize(images[start : start + 256]), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def accuracy(model: keras.Model, preprocess: Preprocess, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """Return top-1 in inference mode, 0..1."""
    runner = KerasRunner(model)
    right = 0
    for start in range(0, len(images), 500):
        outputs = runner.run(preprocess.normalize(images[start : start + 500]))
        right += int((outputs.argmax(axis=1) == labels[start : start + 500]).sum())
    return right / len(images)


def main() -> None:
    """Train the named networks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    images, labels = read_split(arguments.source, "train")
    calibration = [index for indices in choose(images, labels, CALIBRATION, set()) for index in indices]
    images, labels = np.delete(images, calibration, axis=0), np.delete(labels, calibration)
    test_images, test_labels = read_split(arguments.source, "t10k")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.models:
        spec = find(name)
        options = sample_for(spec).options
        size = options.input_size or spec.input_size
        preprocess = Preprocess(size, size, spec.channels, mode="tf")
        plan = replace(PLANS[name], epochs=arguments.epochs or PLANS[name].epochs)
        load_keras().utils.set_random_seed(0)
        model = build_model(spec, weights="none", options=options)
        print(f"{spec.title}: {model.count_params():,} parameters, {len(images)} images of {size} px", flush=True)
        train(model, preprocess, prepare(preprocess, images), labels, plan)
        top1 = accuracy(model, preprocess, prepare(preprocess, test_images), test_labels)
        file = arguments.out / f"{name}.weights.h5"
        model.save_weights(file)
        print(f"{spec.title}: top-1 {top1:.4f} on {len(test_labels)} test images; wrote {file.name}", flush=True)


if __name__ == "__main__":
    main()
