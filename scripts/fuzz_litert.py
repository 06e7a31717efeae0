"""Write random Keras models as LiteRT files, float and INT8, and compare the answers with those of ONNX Runtime.

    python scripts/fuzz_litert.py [--count 200] [--first 0]

Prints the seed of each model that is refused, fails or differs, and a count by cause. ``random_models.py`` makes the
models. An INT8 file may lose 2 dB against ONNX Runtime's INT8, since it rounds at other places.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

Answers = dict[str, NDArray[np.float32]]
TOLERANCE = 1e-3
"""Of a float file, relative to the largest output."""
LOSS_DB, GOOD_DB = 2.0, 28.0


def models(seed: int) -> Iterator[tuple[str, Any, NDArray[np.float32]]]:
    """Yield ``fp32`` and ``int8``, the ONNX model and a batch of three; nothing if Keras or xxdeploy cannot."""
    from random_models import random_model

    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.quantize import Scheme, choose_ranges, observe_histograms, quantize

    model = random_model(seed)
    height, width, channels = model.input_shape[1:]
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (24, -(-height // 4), -(-width // 4), channels)).repeat(4, 1).repeat(4, 2)
    noise = rng.uniform(0, 51, (24, height, width, channels))
    batch = (0.8 * coarse[:, :height, :width] + noise).round().astype(np.float32)
    if not any(layer.name.startswith("rescaling") for layer in model.layers[:2]):
        batch = batch / np.float32(127.5) - 1
    onnx, _ = optimize(onnx_from_keras(model, outputs=[f"output_{index}" for index in range(len(model.outputs))]))
    yield "fp32", onnx, batch[:3]
    parts = (batch[start : start + 8] for start in (0, 8, 16))
    histograms = observe_histograms(onnx, lambda: parts, data_digest="random", total=24)
    yield "int8", quantize(onnx, choose_ranges(histograms, "minmax"), Scheme()), batch[:3]


def outcome(kind: str, model: Any, batch: NDArray[np.float32], exact: Answers) -> str:
    """Return ``right``, or the fault of the LiteRT file of ``model``."""
    from xxdeploy.errors import XXDeployError
    from xxdeploy.lowering.litert.write import to_litert
    from xxdeploy.runtime.engines.litert import LitertSession
    from xxdeploy.runtime.engines.ort import OrtSession

    right = OrtSession(model.to_bytes()).run_all(batch)
    try:
        flat = to_litert(model)
        answers = [LitertSession(flat, reference=reference, threads=1).run_all(batch) for reference in (False, True)]
    except XXDeployError as refusal:
        return f"{refusal.code}: {refusal.message[:160]}"
    except Exception as fault:  # noqa: BLE001 - a fuzzer reports every fault
        return f"{type(fault).__name__}: {str(fault)[:160]}"
    for engine, answer in zip(("XNNPACK", "the reference kernels"), answers, strict=True):
        for name, expected in right.items():
            if answer[name].shape != expected.shape:
                return f"shape {answer[name].shape} in {engine}"
            if kind == "int8":
                loss = decibels(expected, exact[name]) - decibels(answer[name], exact[name])
                if loss > LOSS_DB and decibels(answer[name], exact[name]) < GOOD_DB:
                    return f"weak by {loss:.1f} dB in {engine}"
            elif np.abs(answer[name] - expected).max() > TOLERANCE * max(np.abs(expected).max(), 1e-6):
                return f"differs by {np.abs(answer[name] - expected).max():.2g} in {engine}"
    return "right"


def decibels(answer: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Return the signal-to-noise ratio of an answer."""
    signal = float(np.square(exact.astype(np.float64)).sum())
    noise = float(np.square(answer.astype(np.float64) - exact).sum())
    return float(10 * np.log10(max(signal, 1e-20) / max(noise, 1e-20 * signal, 1e-30)))


def main() -> int:
    """Run the models; return 1 if one is wrong. A refusal is not wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    causes: Counter[str] = Counter()
    for seed in range(asked.first, asked.first + asked.count):
        exact: Answers = {}
        try:
            for kind, model, batch in models(seed):
                from xxdeploy.runtime.engines.ort import OrtSession

                exact = exact or OrtSession(model.to_bytes()).run_all(batch)
                if not all(np.isfinite(answer).all() and np.ptp(answer) > 0 for answer in exact.values()):
                    causes["skipped"] += 1
                    break
                result = outcome(kind, model, batch, exact)
                causes[f"{kind} {result.partition(':')[0].partition(' by ')[0]}"] += 1
                if result != "right":
                    print(f"seed {seed}, {kind}: {result}", flush=True)
        except Exception:  # noqa: BLE001 - fuzz_models.py looks at the conversion
            causes["skipped"] += 1
    print(", ".join(f"{count} {cause}" for cause, count in causes.most_common()))
    harmless = {"skipped", "fp32 right", "int8 right", "fp32 litert-operator", "int8 litert-operator"}
    return 0 if set(causes) <= harmless else 1


if __name__ == "__main__":
    raise SystemExit(main())
