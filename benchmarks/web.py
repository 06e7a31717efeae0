"""Time networks in a browser: xxdeploy's LiteRT file, stock LiteRT INT8 and float, and ONNX Runtime Web.

Headless Chromium, one thread, one page a network, interleaved runs; a run is from an array of the input to that of the
output. With --pictures, the classes that the page finds for pictures are compared with those of Keras: the browser
decodes, the package resizes. The tables are Markdown. The LiteRT file is that of `export --target web`.

    cd web && npm ci && node build.mjs && cd ..
    python benchmarks/web.py --calibration IMAGES [--pictures IMAGES] [--networks mobilenetv2 ...] [--work DIR]

Files of an earlier run are used again: delete --work to make new ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peers_make as make

from xxdeploy.datasets import open_images
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load

WEB = Path(__file__).resolve().parents[1] / "web"
STOCK = "LiteRT.js, stock INT8"
SUBJECTS = (
    ("LiteRT.js, xxdeploy INT8", "litert", "bundle/model-litert.tflite"),
    (STOCK, "litert", "stock-int8.tflite"),
    ("LiteRT.js, stock float", "litert", "stock-float.tflite"),
    ("ONNX Runtime Web, xxdeploy INT8", "onnxruntime", "bundle/model.onnx"),
    ("ONNX Runtime Web, float", "onnxruntime", "bundle/model-fp32.onnx"),
)
STOCK_IMAGES = 60
"""Calibration images of the stock converter."""


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=Path, required=True, help="folder of calibration images")
    parser.add_argument("--pictures", type=Path, help="folder of pictures whose classes are compared with Keras")
    parser.add_argument("--count", type=int, default=200, help="number of these pictures")
    parser.add_argument("--networks", nargs="+", default=["mobilenet", "mobilenetv2", "nasnetmobile"])
    parser.add_argument(
        "--random-weights", nargs="*", default=["nasnetmobile"], help="networks without ImageNet weights"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("build/web"))
    asked = parser.parse_args()
    for network in asked.networks:
        folder = (asked.work / network).resolve()
        weights = "none" if network in asked.random_weights else "imagenet"
        made(network, weights, asked.calibration, folder)
        models = [{"engine": engine, "path": path} for _, engine, path in SUBJECTS]
        times = in_browser(folder, "timed", [models, asked.rounds])
        print(f"\n| {network} ({weights}), {asked.rounds} rounds | quickest, ms | median, ms | median, of stock INT8 |")
        print("| --- | --- | --- | --- |")
        stock = next(each for (name, _, _), each in zip(SUBJECTS, times, strict=True) if name == STOCK)
        for (name, _, _), each in zip(SUBJECTS, times, strict=True):
            middle = statistics.median(each)
            print(f"| {name} | {min(each):.1f} | {middle:.1f} | {middle / statistics.median(stock):.2f}x |")
        if asked.pictures is not None and weights == "imagenet":
            compare(folder, network, asked.pictures, asked.count)


def made(network: str, weights: str, calibration: Path, folder: Path) -> None:
    """Make the files that are not there: xxdeploy's bundle, and two files of TensorFlow's converter."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bundle").is_dir():
        options = ExportOptions.of(
            "int8", weights=weights, calibration=calibration, samples=300, keep_fp32=True, more="litert"
        )
        export(find(network), options, folder / "bundle")
    for name, count in (("stock-int8.tflite", STOCK_IMAGES), ("stock-float.tflite", 0)):
        if not (folder / name).is_file():
            with load(folder / "bundle", tuning="off") as runtime:
                preprocess = runtime.manifest.picture
            paths = open_images(calibration).sample(STOCK_IMAGES).files
            batches = [preprocess.batch([path]) for path in paths[:count]] or None
            make.litert(keras_model(network, weights), batches, folder / name, batch=1)


def keras_model(network: str, weights: str) -> Any:
    """Return the network as Keras has it."""
    import keras

    keras.utils.set_random_seed(0)
    name = {"mobilenet": "MobileNet", "mobilenetv2": "MobileNetV2", "nasnetmobile": "NASNetMobile"}[network]
    return getattr(keras.applications, name)(weights=None if weights == "none" else weights)


def in_browser(folder: Path, call: str, arguments: Sequence[object], pictures: Path | None = None) -> Any:
    """Call a function of ``web/bench/bench.html``; it finds ``folder`` at ``/files/``."""
    job = folder / "job.json"
    place = None if pictures is None else str(pictures.resolve())
    job.write_text(json.dumps({"work": str(folder), "pictures": place, "call": call, "args": arguments}))
    done = subprocess.run(["node", "bench/bench.mjs", job], cwd=WEB, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def compare(folder: Path, network: str, pictures: Path, count: int) -> None:
    """Print the share of pictures with Keras' class, for the page with each engine and for Python's runtime."""
    with load(folder / "bundle", tuning="off") as runtime:
        preprocess = runtime.manifest.picture
        chosen = open_images(pictures).sample(count)
        paths = chosen.files
        local = [one[0].index for one in runtime.predict(list(paths), top=1)]
    model = keras_model(network, "imagenet")
    keras_best = np.concatenate([np.argmax(model(preprocess.batch([path])).numpy(), 1) for path in paths])
    best = {"Python, ONNX Runtime": local}
    for engine in ("litert", "onnxruntime"):
        best[f"page, {engine}"] = in_browser(folder, "classes", ["bundle", engine, chosen.names], pictures)
    print(f"\n| {network}, {len(paths)} pictures | Keras' class, % |\n| --- | --- |")
    for name, classes in best.items():
        print(f"| {name} | {agreement(classes, keras_best):.1f} |")


def agreement(best: Sequence[int], keras_best: np.ndarray[Any, Any]) -> float:
    """Return the share of equal classes, in percent."""
    return 100 * float(np.mean(np.asarray(best) == keras_best))


if __name__ == "__main__":
    main()
