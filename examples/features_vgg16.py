"""Rank images by the similarity of their VGG16 features.

    python examples/features_vgg16.py query.jpg album/*.jpg

Without its classifier VGG16 describes an image by 512 numbers, which are similar for similar images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from xxdeploy.exporter import ExportOptions, export
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load


def main() -> None:
    """Export the feature extractor, then rank the images by their similarity to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", help="two or more; the others are compared with the first")
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet", help="none: random weights")
    parser.add_argument("--input-size", type=int, default=224, help="pixels, 32 or more")
    parser.add_argument("--out", type=Path, default=Path("exports/vgg16-features-fp32"))
    arguments = parser.parse_args()

    options = ExportOptions.of(
        weights=arguments.weights, no_top=True, pooling="avg", input_size=arguments.input_size, force=True
    )
    result = export(find("vgg16"), options, arguments.out)

    features = load(result.bundle).features(arguments.images)
    print(f"{features.shape[1]} features of each of {features.shape[0]} pictures")
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    likeness = features[1:] @ features[0]  # the cosine: 1 is the same
    for index in np.argsort(-likeness, kind="stable"):
        print(f"  {likeness[index]:.4f}  {arguments.images[1 + index].name}")


if __name__ == "__main__":
    main()
