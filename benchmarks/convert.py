"""Conversion of every network: xxdeploy compared with plain ``tf2onnx.convert.from_keras``, in one run.

Each conversion runs in a separate process, the two of a network one after the other. Seconds are from a built Keras
model to serialized ONNX (with xxdeploy's graph passes); memory is the peak of the whole process, including TensorFlow
and the model. Plain conversion may use ``--limit`` GB and counts as killed above.

    python benchmarks/convert.py                       # all 19, about 15 minutes on two cores
    python benchmarks/convert.py mobilenet vgg16       # some
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from xxdeploy.models.catalog import CATALOG, BuildOptions, find

_DIFFERENCE_INPUT = 2  # images for the check that both computed the same network


def convert_lean(name: str) -> dict[str, float]:
    """Convert with xxdeploy in this process; return seconds, GB and the parity with Keras."""
    import numpy as np

    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.passes.optimize import optimize

    model = build_model(find(name), weights="none", options=BuildOptions())
    start = time.perf_counter()
    onnx, _ = optimize(onnx_from_keras(model))
    found = {"seconds": time.perf_counter() - start, "peak_gb": peak_gb(), "weights_gb": 4e-9 * model.count_params()}
    from xxdeploy.runtime.engines.ort import OrtSession

    batch = np.random.default_rng(0).uniform(-1, 1, (_DIFFERENCE_INPUT, *model.input_shape[1:])).astype(np.float32)
    expected = np.asarray(model(batch, training=False))
    data = onnx.to_bytes()
    for optimized in (False, True):
        got = OrtSession(data, optimize=optimized).run(batch)
        found["max_abs"] = max(found.get("max_abs", 0.0), float(np.abs(got - expected).max()))
        # Random weights give probabilities near 1/1000: the relative difference is the harder measure.
        found["max_rel"] = max(found.get("max_rel", 0.0), float((np.abs(got - expected) / expected.max()).max()))
    proto, _ = onnx.split()
    found["transposes"] = sum(node.op_type == "Transpose" for node in proto.graph.node)
    found["nodes"] = len(proto.graph.node)
    return found


def convert_plain(name: str) -> dict[str, float]:
    """Convert with tf2onnx as its documentation says."""
    import tensorflow as tf

    from xxdeploy.convert.catalog.build import build_model

    model = build_model(find(name), weights="none", options=BuildOptions())
    import tf2onnx

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
    start = time.perf_counter()
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=signature, opset=17)
    proto.SerializeToString()
    return {"seconds": time.perf_counter() - start, "peak_gb": peak_gb()}


def peak_gb() -> float:
    """Return the largest resident size of this process so far, in GB (10^9)."""
    status = Path("/proc/self/status").read_text()
    return 1.024e-6 * int(status.split("VmHWM:")[1].split()[0])


def in_process(kind: str, name: str, limit_gb: float) -> dict[str, float] | None:
    """Run one conversion in a fresh process; None if it failed or grew beyond ``limit_gb``."""
    command = [sys.executable, __file__, "--one", kind, name]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            if 1.024e-6 * int(Path(f"/proc/{process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) > limit_gb:
                process.kill()
        time.sleep(0.2)
    output = process.stdout.read() if process.stdout else ""
    return json.loads(output.splitlines()[-1]) if process.returncode == 0 else None


def main() -> int:
    """Print a line for each network, then the geometric mean; return 1 if a bound of the project is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[spec.name for spec in CATALOG])
    parser.add_argument("--limit", type=float, default=20.0, help="GB at which plain conversion counts as killed")
    parser.add_argument("--lean-only", action="store_true", help="leave the plain conversion out")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, name = arguments.one
        print(json.dumps(convert_lean(name) if kind == "lean" else convert_plain(name)))
        return 0
    print(f"{'network':18} {'lean s':>7} {'plain s':>8} {'ratio':>6} {'lean GB':>8} {'bound':>6} {'plain GB':>9} "
          f"{'nodes':>6} {'T':>2} {'max abs':>8} {'max rel':>8}")  # fmt: skip
    ratios, rows, broken = [], {}, False
    for name in arguments.names:
        lean = in_process("lean", name, arguments.limit)
        plain = None if arguments.lean_only else in_process("plain", name, arguments.limit)
        rows[name] = {"lean": lean, "plain": plain}
        if lean is None:
            print(f"{name:18} FAILED")
            broken = True
            continue
        bound = 1.0 + 4 * lean["weights_gb"]
        ratio = lean["seconds"] / plain["seconds"] if plain else math.nan
        ratios += [ratio] if plain else []
        broken |= lean["peak_gb"] > bound or ratio > 1 or lean["transposes"] > 1 or lean["max_abs"] > 1e-5
        plain_text = f"{plain['seconds']:8.1f} {ratio:6.2f}" if plain else f"{'killed':>8} {'':>6}"
        print(f"{name:18} {lean['seconds']:7.1f} {plain_text} {lean['peak_gb']:8.2f} {bound:6.2f} "
              f"{plain['peak_gb'] if plain else math.nan:9.2f} {lean['nodes']:6.0f} {lean['transposes']:2.0f} "
              f"{lean['max_abs']:8.1e} {lean['max_rel']:8.1e}", flush=True)  # fmt: skip
    if ratios:
        print(f"geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f}")
        broken |= statistics.geometric_mean(ratios) > 0.4
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return int(broken)


if __name__ == "__main__":
    raise SystemExit(main())
