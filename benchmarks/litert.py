"""Time xxdeploy's LiteRT files against those of TensorFlow's converter: one thread, interleaved, by processor time.

    python benchmarks/litert.py [--only mobilenet ...] [--rounds 40] [--size PIXELS]

Each network (random weights, seed 0) runs in a process of its own, which makes four files from one Keras model and one
set of synthetic pictures: xxdeploy's float and INT8, and the converter's float and INT8 (uint8 in and out). A row has
the median processor time of an inference in milliseconds, and the ratios of xxdeploy's INT8 file to the converter's and
to xxdeploy's float file. Both are medians of the ratios of the interleaved rounds. ``--size`` is for tests: networks
have their usual size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "scripts")]

from sweep_litert import make  # noqa: E402

from xxdeploy.models.catalog import CATALOG  # noqa: E402

FILES = ("INT8", "stock INT8", "float", "stock float")
WARM_UP = 3


def files(name: str, size: int | None) -> dict[str, bytes]:
    """Return the LiteRT files of a network by their name in the table."""
    from peers_make import litert

    from xxdeploy.lowering.litert.write import to_litert

    made = make(name, size)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{kind}.tflite" for kind in ("int8", "float")]
        litert(made.model, [picture[None] for picture in made.pictures], paths[0])
        litert(made.model, None, paths[1])
        stock = [path.read_bytes() for path in paths]
    ours = to_litert(made.int8, made.grid), to_litert(made.fp32)
    return dict(zip(FILES, (ours[0], stock[0], ours[1], stock[1]), strict=True))


def opened(flat: bytes) -> Any:
    """Return an interpreter of one thread with a gray picture as its input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flat, num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        gray = 128 if detail["dtype"] is np.uint8 else 0
        interpreter.set_tensor(detail["index"], np.full(detail["shape"], gray, detail["dtype"]))
    return interpreter


def row(name: str, size: int | None, rounds: int) -> str:
    """Return the line of a network."""
    interpreters = {kind: opened(flat) for kind, flat in files(name, size).items()}
    times: dict[str, list[float]] = {kind: [] for kind in interpreters}
    for turn in range(WARM_UP + rounds):
        for kind, interpreter in interpreters.items():
            start = time.process_time()
            interpreter.invoke()
            if turn >= WARM_UP:
                times[kind].append(1e3 * (time.process_time() - start))
    ratios = [
        statistics.median(ours / other for ours, other in zip(times["INT8"], times[against], strict=True))
        for against in ("stock INT8", "float")
    ]
    shown = [f"{statistics.median(times[kind]):.2f}" for kind in FILES]
    return f"| {name} | {' | '.join(shown)} | {ratios[0]:.2f} | {ratios[1]:.2f} |"


def main() -> int:
    """Print a row for each network; return 1 if xxdeploy's INT8 file is slower than the converter's for one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--size", type=int)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        warnings.simplefilter("ignore")
        print(row(asked.here, asked.size, asked.rounds))
        return 0
    print(f"| network | {' | '.join(FILES)} | INT8 / stock INT8 | INT8 / float |")
    print(f"| --- |{' --- |' * (len(FILES) + 2)}", flush=True)
    slower = []
    for name in asked.only or [spec.name for spec in sorted(CATALOG, key=lambda spec: spec.parameters)]:
        more = ["--size", str(asked.size)] if asked.size else []
        child = subprocess.run(
            [sys.executable, __file__, "--here", name, "--rounds", str(asked.rounds), *more],
            capture_output=True, text=True, check=False, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        lines = (child.stdout if child.returncode == 0 else child.stderr).strip().splitlines()
        last = lines[-1] if lines else f"exit status {child.returncode}"
        print(last if child.returncode == 0 else f"| {name} | {last} |", flush=True)
        if child.returncode or float(last.split("|")[-3]) > 1:
            slower.append(name)
    print(f"\nslower than stock INT8: {', '.join(slower) or 'none'}")
    return 1 if slower else 0


if __name__ == "__main__":
    raise SystemExit(main())
