"""Export a model in this process; print by how much its memory grew beyond that of the libraries, and its weights.

``python export_child.py FOLDER``. For ``tests/test_memory.py``, since the peak of a test's own process is that of the
tests before it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np


def in_bytes(name: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


def main(folder: Path) -> None:
    from xxdeploy.convert.keras_loader import load_keras
    from xxdeploy.exporter import ExportOptions, export
    from xxdeploy.memory import release_memory

    keras = load_keras()
    layers = keras.layers

    def net(width: int) -> Any:
        image = keras.Input((32, 32, 3))
        flat = layers.Flatten()(layers.Conv2D(16, 3, strides=4)(image))
        return keras.Model(image, layers.Dense(5)(layers.Dense(width, "relu")(layers.Dense(width, "relu")(flat))))

    def run(width: int) -> None:
        path = folder / f"{width}.keras"
        model = net(width)
        for weight in model.weights:
            weight.assign(np.random.default_rng(0).normal(0, 0.02, weight.shape).astype(np.float32))
        model.save(path)
        weights = 4 * model.count_params()
        del model
        release_memory()
        before = in_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        export(path, ExportOptions.of("fp32", preprocess="none"), folder / f"{width}")
        sys.stdout.write(json.dumps([in_bytes("VmHWM") - before, weights]) + "\n")

    run(16)  # imports everything, and fills the allocators
    run(3800)


main(Path(sys.argv[1]))
