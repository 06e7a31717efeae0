"""Time xxdeploy's LiteRT files against those of TensorFlow's converter: one thread, interleaved, by processor time.

    python benchmarks/litert.py [--only mobilenet ...] [--rounds 40] [--size PIXELS]
    python benchmarks/litert.py --classic --rounds 10 --jobs 2 --out litert.md

Each network (random weights, seed 0) runs in a process of its own, which makes three files from one Keras model and two
synthetic pictures: xxdeploy's INT8 and float, and the converter's INT8 (uint8 in and out). A row has the median
processor time of an inference in milliseconds, and the ratios of xxdeploy's INT8 file to the converter's and to
xxdeploy's float file. Both are medians of the ratios of the interleaved rounds, which end after ``--rounds`` or
20 seconds. ``--classic`` times the 40 networks that do not scale pixels themselves; ``--jobs 2`` makes the files of the
next network while one is timed. A network that the converter cannot make, or that takes longer than ``--limit``
seconds, gets a row with the reason. ``--size`` is for tests: networks have their usual size.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "scripts")]

from sweep_litert import make  # noqa: E402

from xxdeploy.models.catalog import CATALOG  # noqa: E402

FILES = ("INT8", "stock INT8", "float")
WARM_UP, LEAST_ROUNDS, MOST_SECONDS = 2, 5, 20.0
PICTURES = 2
SKIPPED = "skipped: "


def files(name: str, size: int | None) -> dict[str, bytes]:
    """Return the LiteRT files of a network by their name in the table."""
    from peers_make import litert

    from xxdeploy.lowering.litert.write import to_litert

    made = make(name, size, PICTURES)
    ours = to_litert(made.int8, made.grid), to_litert(made.fp32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.tflite"
        try:
            litert(made.model, [picture[None] for picture in made.pictures], path)
        except Exception as error:
            words = " ".join(str(error).split())[:100]
            raise SystemExit(f"{SKIPPED}the stock converter: {type(error).__name__}: {words}") from error
        stock = path.read_bytes()
    return dict(zip(FILES, (ours[0], stock, ours[1]), strict=True))


def opened(flat: bytes) -> Any:
    """Return an interpreter of one thread with a gray picture as its input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flat, num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        gray = 128 if detail["dtype"] is np.uint8 else 0
        interpreter.set_tensor(detail["index"], np.full(detail["shape"], gray, detail["dtype"]))
    return interpreter


@contextmanager
def alone(lock: str | None) -> Iterator[None]:
    """Wait until no other process times; ``lock`` is a file that all of them name."""
    if lock is None:
        yield
        return
    import fcntl

    with Path(lock).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def row(name: str, size: int | None, rounds: int, lock: str | None) -> str:
    """Return the line of a network."""
    made = files(name, size)
    with alone(lock):
        interpreters = {kind: opened(flat) for kind, flat in made.items()}
        times: dict[str, list[float]] = {kind: [] for kind in interpreters}
        start = time.monotonic()
        for turn in range(WARM_UP + rounds):
            if turn >= WARM_UP + LEAST_ROUNDS and time.monotonic() - start > MOST_SECONDS:
                break
            for kind, interpreter in interpreters.items():
                before = time.process_time()
                interpreter.invoke()
                if turn >= WARM_UP:
                    times[kind].append(1e3 * (time.process_time() - before))
    ratios = [
        statistics.median(ours / other for ours, other in zip(times["INT8"], times[against], strict=True))
        for against in ("stock INT8", "float")
    ]
    shown = [f"{statistics.median(times[kind]):.2f}" for kind in FILES]
    return f"| {name} | {' | '.join(shown)} | {ratios[0]:.2f} | {ratios[1]:.2f} |"


def measured(name: str, words: Sequence[str], limit: float) -> tuple[str, bool]:
    """Return the line of a network from a process of its own, and whether its INT8 file is slower or not there."""
    try:
        child = subprocess.run(
            [sys.executable, __file__, "--here", name, *words],
            capture_output=True, text=True, check=False, timeout=limit,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"| {name} | skipped: over {limit:.0f} seconds |{' |' * (len(FILES) + 1)}", False
    lines = (child.stdout if child.returncode == 0 else child.stderr).strip().splitlines()
    last = lines[-1] if lines else f"exit status {child.returncode}"
    if child.returncode:
        return f"| {name} | {last} |{' |' * (len(FILES) + 1)}", not last.startswith(SKIPPED)
    return last, float(last.split("|")[-3]) > 1


def parsed() -> argparse.Namespace:
    """Return the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--classic", action="store_true", help="the 40 networks that do not scale pixels themselves")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time; one of them is timed")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a network (default 300)")
    parser.add_argument("--out", type=Path, help="file to write the table to")
    parser.add_argument("--size", type=int)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("--lock", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Print a row for each network; return 1 if xxdeploy's INT8 file is slower than the converter's for one."""
    asked = parsed()
    if asked.here:
        warnings.simplefilter("ignore")
        print(row(asked.here, asked.size, asked.rounds, asked.lock))
        return 0
    head = [f"| network | {' | '.join(FILES)} | INT8 / stock INT8 | INT8 / float |"]
    head.append(f"| --- |{' --- |' * (len(FILES) + 2)}")
    print("\n".join(head), flush=True)
    specs = sorted(CATALOG, key=lambda spec: spec.parameters)
    every = [spec.name for spec in specs if not asked.classic or spec.preprocess != "none"]
    names, slower = asked.only or every, []
    with tempfile.NamedTemporaryFile() as lock, ThreadPoolExecutor(asked.jobs) as pool:
        words = ["--rounds", str(asked.rounds), "--lock", lock.name]
        words += ["--size", str(asked.size)] if asked.size else []
        for name, (line, slow) in zip(names, pool.map(lambda n: measured(n, words, asked.limit), names), strict=True):
            print(line, flush=True)
            head.append(line)
            slower += [name] if slow else []
            if asked.out is not None:
                asked.out.write_text("\n".join(head) + "\n")
    print(f"\nslower than stock INT8: {', '.join(slower) or 'none'}")
    return 1 if slower else 0


if __name__ == "__main__":
    raise SystemExit(main())
