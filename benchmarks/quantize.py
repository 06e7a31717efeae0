"""Compare INT8 by xxdeploy with INT8 by its peers: the same float ONNX file, the same images, one run.

For each model and tool the script prints the seconds to calibrate and quantize (images are decoded before), top-1, and
the share of images with the float model's class. ONNX Runtime runs all results on this machine's CPU.

    python benchmarks/quantize.py --calibration IMAGES --eval LABELED_IMAGES [--models mobilenetv2 ...] [--tools ...]

A model is a catalog name (ImageNet weights from Keras' cache) or a float .onnx file with the `tf` preprocessing.

``--whole`` measures whole exports instead, from a Keras model to an INT8 file, each in a process of its own
(``quantize_whole.py``); a model is then a catalog name, or NAME=none for random weights under a fitted head:

    python benchmarks/quantize.py --whole --models mobilenetv2 resnet50=none --calibration IMAGES --eval LABELED_IMAGES
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quantize_whole import whole

from xxdeploy.datasets import has_labels, imagenet_labels, open_images
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.methods.equalize import equalize
from xxdeploy.quantize.methods.method import Draft, MethodContext
from xxdeploy.quantize.methods.reconstruct import reconstruct
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.results import Accuracy
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import rounded
from xxdeploy.verify import evaluate

CORRECTION_IMAGES = 96

HISTOGRAM_IMAGES = 64
"""onnxruntime's histogram calibrators keep every activation of every image: 300 images of MobileNetV2 take 8 GB."""


@dataclass(frozen=True, slots=True)
class Job:
    """One model, and the images (n, h, w, 3) uint8 to calibrate it on."""

    model: OnnxModel
    preprocess: Preprocess
    images: NDArray[np.uint8]

    def batches(self, size: int = 1) -> Iterator[NDArray[np.float32]]:
        """Yield preprocessed batches."""
        for first in range(0, len(self.images), size):
            yield self.preprocess.normalize(self.images[first : first + size])


def ours(
    method: str, corrected_on: int = 0, *, equalized: bool = False, adaptive: bool = False
) -> Callable[[Job], OnnxModel]:
    """Quantize with xxdeploy: channels equalized, biases corrected and weights rounded on ``corrected_on`` images."""

    def run(job: Job) -> OnnxModel:
        asked = scheme("static-w8c-a8")
        some = replace(job, images=job.images[:corrected_on])
        recipe = QuantizationRecipe(bias_correction="empirical", rounding="adaptive" if adaptive else "nearest")
        context = MethodContext(some.batches, recipe, asked)
        model = equalize(Draft(job.model), context).model if equalized else job.model
        ranges = calibrate(model, job.batches, method=method, data_digest="benchmark")
        if not corrected_on:
            return quantize(model, ranges, asked)
        return reconstruct(Draft(model, ranges), context).quantized(asked)

    return run


def onnxruntime_static(
    method: str = "MinMax", images: int | None = None, **options: bool
) -> Callable[[Job], OnnxModel]:
    """Quantize with ``onnxruntime.quantization.quantize_static``, with its defaults or the given options."""

    def run(job: Job) -> OnnxModel:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                data = replace(job, images=job.images[:images]).batches()
                self.feeds = ({job.model.proto().graph.input[0].name: batch} for batch in data)

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                return next(self.feeds, None)

        chosen: dict[str, Any] = {"calibrate_method": CalibrationMethod[method], **options}
        if options:
            chosen.update(activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(job.model.to_bytes())
            quantize_static(str(source), str(target), Reader(), **chosen)
            return OnnxModel(target.read_bytes())

    return run


def nncf(job: Job) -> OnnxModel:
    """Quantize with NNCF's ONNX backend, mixed preset, with its fast bias correction."""
    library = importlib.import_module("nncf")
    proto = job.model.proto()
    dataset = library.Dataset([{proto.graph.input[0].name: batch} for batch in job.batches()])
    quantized = library.quantize(
        proto, dataset, preset=library.QuantizationPreset.MIXED, subset_size=len(job.images), fast_bias_correction=True
    )
    return OnnxModel.from_proto(quantized)


TOOLS: dict[str, Callable[[Job], OnnxModel]] = {
    "xxdeploy minmax": ours("minmax"),
    "xxdeploy percentile-99.99": ours("percentile-99.99"),
    "xxdeploy entropy": ours("entropy"),
    "xxdeploy mse": ours("mse"),
    "xxdeploy percentile, bias correction": ours("percentile-99.99", CORRECTION_IMAGES),
    "xxdeploy mse, bias correction": ours("mse", CORRECTION_IMAGES),
    "xxdeploy mse, equalized, bias correction": ours("mse", CORRECTION_IMAGES, equalized=True),
    "xxdeploy mse, equalized, adaptive rounding": ours("mse", 192, equalized=True, adaptive=True),
    "onnxruntime defaults": onnxruntime_static(),
    "onnxruntime per channel minmax": onnxruntime_static(per_channel=True),
    "onnxruntime per channel percentile": onnxruntime_static("Percentile", HISTOGRAM_IMAGES, per_channel=True),
    "nncf": nncf,
}


def load(name: str) -> tuple[OnnxModel, Preprocess]:
    """Return the float model and its preprocessing."""
    if name.endswith(".onnx"):
        model = OnnxModel(Path(name).read_bytes())
        height, width = (dim.dim_value for dim in model.proto().graph.input[0].type.tensor_type.shape.dim[1:3])
        return model, Preprocess(height, width)
    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.models.catalog import find
    from xxdeploy.passes.optimize import optimize

    spec = find(name)
    model, _ = optimize(onnx_from_keras(build_model(spec, weights="imagenet")))
    return model, Preprocess(spec.input_size, spec.input_size, spec.channels, mode=spec.preprocess)


def decode(root: Path, preprocess: Preprocess, count: int | None) -> tuple[NDArray[np.uint8], tuple[int, ...] | None]:
    """Return ``count`` images (n, h, w, 3) uint8 of a folder, and their classes if there are any."""
    chosen = open_images(root, labels=imagenet_labels(), require_labels=has_labels(root)).sample(count)
    return np.stack([rounded(preprocess.image(path)) for path in chosen.files]), chosen.labels


def top1(found: Accuracy) -> str:
    """Return a cell of the table."""
    return "       -" if found.top1 is None else f"{100 * found.top1:8.2f}"


def judge(name: str, model: OnnxModel, data: Job, labels: tuple[int, ...] | None) -> Accuracy:
    """Run the evaluation images through ``model``."""
    return evaluate(OrtSession(model.to_bytes(), name=name), data.batches(8), labels)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mobilenet", "mobilenetv2"])
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--eval", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=300, help="calibration images (default 300)")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), metavar="TOOL")
    parser.add_argument("--whole", action="store_true", help="whole exports, each in a process of its own")
    parser.add_argument("--rounds", type=int, default=2, help="--whole: runs of each tool, interleaved (default 2)")
    parser.add_argument("--work", type=Path, default=Path("exports/quantize"), help="--whole: folder for the files")
    asked = parser.parse_args()
    if asked.whole:
        for name in asked.models:
            whole(name, asked.calibration, asked.eval, samples=asked.samples, rounds=asked.rounds, work=asked.work)
        return
    for name in asked.models:
        model, preprocess = load(name)
        job = Job(model, preprocess, decode(asked.calibration, preprocess, asked.samples)[0])
        images, labels = decode(asked.eval, preprocess, None)
        data = Job(model, preprocess, images)
        reference = judge("float", model, data, labels)
        print(f"\n{name}: {len(job.images)} calibration images, {len(images)} evaluation images")
        print(f"{'tool':42}{'seconds':>9}{'top-1':>8}{'agree':>8}{'MB':>7}")
        print(f"{'float':42}{'':9}{top1(reference)}{100:8.2f}{model.size / 1e6:7.2f}", flush=True)
        for tool in asked.tools:
            if tool == "nncf" and importlib.util.find_spec("nncf") is None:
                print(f"{tool:42}  not installed")
                continue
            start = time.perf_counter()
            quantized = TOOLS[tool](job)
            seconds = time.perf_counter() - start
            found = judge(tool, quantized, data, labels)
            agreement = 100 * found.agreement(reference)
            print(f"{tool:42}{seconds:9.1f}{top1(found)}{agreement:8.2f}{quantized.size / 1e6:7.2f}", flush=True)


if __name__ == "__main__":
    main()
