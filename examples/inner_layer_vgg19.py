"""Export VGG19 up to its inner layer block4_pool, and show the feature maps of an image.

    python examples/inner_layer_vgg19.py cat.jpg

Any Keras model can be cut at any layer. A model file does not contain the scaling of its pixels unless a layer does it.
VGG19 was trained with Caffe's scaling, so the example passes preprocess="caffe".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np

from xxdeploy.exporter import ExportOptions, export
from xxdeploy.runtime import load


def main() -> None:
    """Save VGG19 as a file, export it up to the layer, and show the strongest maps of a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--layer", default="block4_pool")
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet", help="none: random ones")
    parser.add_argument("--input-size", type=int, default=224, help="pixels, 32 or more")
    parser.add_argument("--out", type=Path, default=Path("exports/vgg19-inner-fp32"))
    arguments = parser.parse_args()

    size = arguments.input_size
    weights = None if arguments.weights == "none" else arguments.weights
    model = keras.applications.VGG19(include_top=False, weights=weights, input_shape=(size, size, 3))
    file = arguments.out.with_suffix(".keras")
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)

    options = ExportOptions.of(output_layer=arguments.layer, preprocess="caffe", force=True)
    result = export(file, options, arguments.out)

    maps = load(result.bundle).features(arguments.image)[0]  # (height, width, channels)
    print(f"{arguments.layer} returns {maps.shape[2]} maps of {maps.shape[0]} x {maps.shape[1]}")
    strength = maps.mean(axis=(0, 1))
    for channel in np.argsort(-strength, kind="stable")[:5]:
        row, column = np.unravel_index(maps[:, :, channel].argmax(), maps.shape[:2])
        print(f"  map {channel}: {strength[channel]:.2f} on average, most at row {row}, column {column}")


if __name__ == "__main__":
    main()
