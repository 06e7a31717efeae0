"""Measure what each rung of the INT8 ladder takes away of the KL divergence: the source of ``Method.gains``.

    python benchmarks/ladder_gains.py mobilenet=imagenet lenet=sample ... [--calibration IMAGES] [--samples 64]

Each network starts with the plain recipe and climbs every rung; a rung that does not help is left, and then counts as
no gain. Recipes are judged on images that were held back from calibration. The last line is the mean of the networks.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.exporter import ExportOptions
from xxdeploy.exporter.ladder import RUNGS, Bench, Goal, climb
from xxdeploy.exporter.quantizer import Quantizer
from xxdeploy.exporter.source import Source, open_source
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.verify import Comparison, compare_with, record_reference

EVERY = Goal(enough=2.0)
"""A goal that no recipe reaches, and no promise: each rung is climbed."""


def source_of(asked: str, calibration: Path | None, samples: int) -> Source:
    """Return the network NAME=WEIGHTS, or a model file with `tf` preprocessing."""
    name, _, weights = asked.partition("=")
    is_file = name.endswith(".keras")
    options = ExportOptions.of(
        "int8",
        weights=weights or "imagenet",
        calibration=None if weights == "sample" else calibration,
        samples=samples,
        preprocess=weights or "tf" if is_file else None,
    )
    if is_file:
        options = options.changed(weights="imagenet")
    return open_source(Path(name) if is_file else find(name), options, lambda _: nullcontext())


def gains(source: Source) -> dict[str, float]:
    """Return the share (0..1) of the divergence that each rung takes away, and print the rungs."""
    fp32, _ = optimize(onnx_from_keras(source.model, outputs=source.output_names))
    inputs = source.inputs
    images = inputs.selection
    assert images is not None
    kept = record_reference(open_session(fp32, name="onnx-fp32"), inputs.batches(images, 16))

    def judge(model: OnnxModel) -> Comparison:
        return compare_with(kept, open_session(model, name="onnx-int8", exact=True), inputs.batches(images, 16))

    quantizer = Quantizer(fp32, inputs, lambda _: None)
    bench = Bench(judge, judge, lambda _: (0.0, 0.0))
    end = climb(quantizer, bench, EVERY, start=QuantizationRecipe(), name="plain", effort="thorough")
    divergence, shares = 0.0, dict.fromkeys(RUNGS, 0.0)
    for rung in end.rungs:
        kl = rung.comparison.kl_nats or 0.0
        print(
            f"  {rung.name:16}{kl:9.5f} nats{100 * (rung.comparison.agreement or 0):7.1f} %  {rung.reason}", flush=True
        )
        if rung.taken:
            if rung.name in shares:
                shares[rung.name] = 1 - kl / divergence
            divergence = kl
    return shares


def main() -> None:
    """Print the gains of each network and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    asked = parser.parse_args()
    rows = []
    for network in asked.networks:
        print(network, flush=True)
        rows.append(gains(source_of(network, asked.calibration, asked.samples)))
        print("  gains: " + ", ".join(f"{name} {gain:.2f}" for name, gain in rows[-1].items()), flush=True)
    means = {name: sum(row[name] for row in rows) / len(rows) for name in RUNGS}
    print("mean: " + ", ".join(f"{name} {gain:.2f}" for name, gain in means.items()))


if __name__ == "__main__":
    main()
