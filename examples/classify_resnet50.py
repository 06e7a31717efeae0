"""Export ResNet50, then classify images with the bundle as a device does.

    python examples/classify_resnet50.py cat.jpg dog.jpg

The export builds the Keras network, converts it to ONNX, compares the two, and writes a bundle. A device needs only
numpy, pillow and onnxruntime to run it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from xxdeploy.exporter import ExportOptions, export
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load


def main() -> None:
    """Export, then predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet", help="none: random weights")
    parser.add_argument("--input-size", type=int, help="pixels; other sizes than 224 need --weights none")
    parser.add_argument("--out", type=Path, default=Path("exports/resnet50-fp32"))
    arguments = parser.parse_args()

    plan = ExportOptions.of(weights=arguments.weights, input_size=arguments.input_size, force=True)
    result = export(find("resnet50"), plan, arguments.out)
    for parity in result.parities:
        print(f"{parity.candidate}: within {parity.max_abs:.1e} of {parity.reference}")

    runtime = load(result.bundle)
    for image, predictions in zip(arguments.images, runtime.predict(arguments.images, top=3), strict=True):
        print(image.name)
        for prediction in predictions:
            print(f"  {prediction.probability:.3f}  {prediction.label}")


if __name__ == "__main__":
    main()
