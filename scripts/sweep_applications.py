"""Save every network of ``keras.applications`` as a model file and convert the file, as users do.

    python scripts/sweep_applications.py
    python scripts/sweep_applications.py --only 'ConvNeXt*' --only EfficientNetV2B0 --top yes

Each function builds its network with random weights, with 10 classes and without the classifier. The script saves it as
``.keras`` and as ``.h5``, converts the file to FP32, and prints the largest difference from Keras, relative to the
largest output. ``settle_batch_norms`` gives the layers values with which the outputs depend on the image. The input has
64 x 64 pixels, or the least that the function accepts. ``--only`` takes a name or a pattern and may be repeated.

The exit status is 1 if a file differs by more than 1e-4 or is refused.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 64
LEAST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
"""Functions that refuse 64 pixels, and what they accept."""
TOLERANCE = 1e-4


def functions() -> list[str]:
    """Return the names of all functions that build a network."""
    import keras

    return [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]


def build(name: str, *, top: bool) -> Any:
    """Return the network with weights that let an image reach the output."""
    import keras

    from xxdeploy.convert.catalog.calibrate_batchnorm import settle_batch_norms, textures

    side = LEAST.get(name, SIDE)
    more = {"classes": 10} if top else {}
    model = getattr(keras.applications, name)(weights=None, include_top=top, input_shape=(side, side, 3), **more)
    settle_batch_norms(model, _scaled(model, textures(8, side, side, 3)))
    return model


def _scaled(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``pixels`` as the network takes them: 0..255 if it scales them itself, else -1..1."""
    first = {type(layer).__name__ for layer in model.layers[:3]}
    batch = pixels.astype(np.float32)
    return batch if first & {"Rescaling", "Normalization"} else batch / np.float32(127.5) - 1


def difference(model: Any, path: Path) -> float:
    """Save a model at ``path`` and convert the file; return the largest difference, relative to the largest output."""
    from xxdeploy.convert.catalog.calibrate_batchnorm import textures
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.convert.user_model.model_file import load_model_file
    from xxdeploy.convert.user_model.prepare import prepare_model
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.runtime.engines.ort import OrtSession

    batch = _scaled(model, textures(4, *model.input_shape[1:], seed=1))
    expected = np.asarray(model(batch, training=False))
    model.save(path)
    try:
        prepared = prepare_model(load_model_file(path).model)
    finally:
        path.unlink()
    outputs = tuple(output.name for output in prepared.outputs)
    onnx, _ = optimize(onnx_from_keras(prepared.model, outputs=outputs))
    answer = OrtSession(onnx.to_bytes()).run(batch)
    largest = np.abs(expected).max()
    if (
        answer.shape != expected.shape
        or not np.isfinite(expected).all()
        or np.ptp(expected, axis=0).max() < largest / 100
    ):
        return float("inf")  # an output that does not depend on the image shows nothing
    return float(np.abs(answer - expected).max() / largest)


def rows(name: str, suffixes: Iterable[str], *, top: bool, folder: Path) -> Iterator[bool]:
    """Convert the files of one network, print a line for each, and yield whether it passes."""
    import keras

    model = build(name, top=top)
    for suffix in suffixes:
        start = time.perf_counter()
        try:
            error = difference(model, folder / f"model{suffix}")
            passes, said = error <= TOLERANCE, f"{error:.1e}"
        except Exception as fault:  # noqa: BLE001 - a sweep reports every fault
            passes, said = False, f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
        kind, seconds = "classifier" if top else "features", time.perf_counter() - start
        print(f"{name:20} {kind:10} {suffix:6} {'pass' if passes else 'FAIL'} {said:10} {seconds:5.0f} s", flush=True)
        yield passes
    keras.utils.clear_session()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a name or a pattern, such as 'ConvNeXt*'")
    parser.add_argument("--top", choices=("yes", "no", "both"), default="both", help="with the classifier or without")
    parser.add_argument("--suffix", choices=(".keras", ".h5"), action="append", help="one of the two forms")
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tops = {"yes": (True,), "no": (False,), "both": (True, False)}[asked.top]
    results: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="xxdeploy-sweep-") as folder:
        for name in functions():
            if any(fnmatchcase(name, pattern) for pattern in asked.only or ["*"]):
                for top in tops:
                    results += rows(name, asked.suffix or (".keras", ".h5"), top=top, folder=Path(folder))
    print(f"{sum(results)} of {len(results)} files pass")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
