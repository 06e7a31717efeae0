"""Write each network of the catalog as LiteRT files, float and INT8, and compare them with ONNX Runtime.

    python scripts/sweep_litert.py [--only NAME ...] [--size 96]

The weights are random (seed 0), with settled batch normalizations; the pictures are synthetic. A network that needs
more pixels than ``--size`` gets its least size. Each network runs in a process of its own, and prints a line: the
size, the largest difference of the float file over the largest output, and the signal-to-noise ratio of INT8 against
the float network in ONNX Runtime, in XNNPACK, and of XNNPACK against ONNX Runtime. A LiteRT file may lose 2 dB; in
float it may differ by 1e-4. Returns 1 if a network is refused or wrong. All 64 take about 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.models.catalog import CATALOG, BuildOptions, find

FLOAT, LOSS_DB = 1e-4, 2.0
CALIBRATION, COMPARED = 8, 4


@dataclass(frozen=True)
class Made:
    """A Keras network, its ONNX graphs, the scaling of its pixels, and preprocessed pictures (n, h, w, c) float32."""

    model: Any
    fp32: Any
    int8: Any
    grid: Any
    pictures: NDArray[np.float32]


def make(name: str, size: int | None = None, calibration: int = CALIBRATION) -> Made:
    """Build a network with random weights, convert it, and quantize it with the ranges of so many synthetic pictures.

    ``size`` is raised to the least that the network allows; None is the usual size.
    """
    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.convert.catalog.calibrate_batchnorm import settle_batch_norms, textures
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.exporter.quantizer import prepared_for_int8
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.quantize import Scheme, choose_ranges, observe_histograms, quantize
    from xxdeploy.runtime.image.preprocess import Preprocess

    spec = find(name)
    least = None if size is None else max(size, spec.min_size)
    model = build_model(spec, weights="none", options=BuildOptions(input_size=least))
    height, width, channels = model.input_shape[1:]
    preprocess = Preprocess(height, width, channels, spec.preprocess)
    pictures = preprocess.normalize(textures(calibration, height, width, channels))
    settle_batch_norms(model, pictures)
    fp32, _ = optimize(onnx_from_keras(model))
    prepared, _, grid = prepared_for_int8(fp32, preprocess)
    histograms = observe_histograms(prepared, lambda: iter([pictures]), data_digest="textures", total=len(pictures))
    return Made(model, fp32, quantize(prepared, choose_ranges(histograms, "minmax"), Scheme()), grid, pictures)


def decibels(answer: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Return the signal-to-noise ratio of an answer; the signal is what differs from the mean."""
    signal = float(np.square(exact - exact.mean(axis=0, dtype=np.float64)).sum())
    noise = float(np.square(answer.astype(np.float64) - exact).sum())
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def outcome(name: str, size: int | None) -> tuple[bool, str]:
    """Return whether the files of a network are right, and a line about them."""
    from xxdeploy.errors import XXDeployError
    from xxdeploy.lowering.litert.write import to_litert
    from xxdeploy.onnxmodel.session import open_session
    from xxdeploy.runtime.engines.litert import LitertSession

    made = make(name, size)
    batch, pixels = made.pictures[:COMPARED], made.model.input_shape[1]
    try:
        files = to_litert(made.fp32), to_litert(made.int8, made.grid)
    except XXDeployError as refusal:
        return False, f"{name} {pixels}: {refusal.code}: {refusal.message}"
    exact, whole = (open_session(model, exact=True).run(batch) for model in (made.fp32, made.int8))
    floats, integers = (LitertSession(flat).run(batch) for flat in files)
    difference = float(np.abs(floats - exact).max() / np.abs(exact).max())
    ours, theirs, between = decibels(integers, exact), decibels(whole, exact), decibels(integers, whole)
    right = difference < FLOAT and ours > theirs - LOSS_DB
    return right, (
        f"{name} {pixels}: {'right' if right else 'WRONG'}, float {difference:.1e}, INT8 {theirs:.1f} dB in ONNX "
        f"Runtime, {ours:.1f} dB in LiteRT, {between:.1f} dB between them"
    )


def main() -> int:
    """Run each network; return 1 if one is refused or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        warnings.simplefilter("ignore")
        right, line = outcome(asked.here, asked.size)
        print(line)
        return 0 if right else 1
    names = asked.only or [spec.name for spec in sorted(CATALOG, key=lambda spec: spec.parameters)]
    failed = []
    for name in names:
        child = subprocess.run(
            [sys.executable, __file__, "--here", name, "--size", str(asked.size)],
            capture_output=True, text=True, check=False, timeout=1800, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        last = (child.stdout or child.stderr).strip().splitlines()
        print(last[-1] if last else f"{name}: exit status {child.returncode}", flush=True)
        if child.returncode:
            failed.append(name)
    print(f"{len(names) - len(failed)} of {len(names)} right" + (f"; not {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
