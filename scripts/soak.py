"""Load a bundle once and predict from several threads for minutes: memory, answers, and times beside what they must be.

    python scripts/soak.py BUNDLE --minutes 5 --threads 8

The machine's own capacity is measured in turns with it: the same threads on a bare ONNX Runtime session, with nothing
of xxdeploy around. Where there are more threads than cores, most of a call is waiting for a core or for Python's lock.
What is asked: resident memory grows by less than 2 % after the first quarter; every answer is the first one's, bit for
bit; p99 is at most 3 times the capacity's p50, or, where the bare session has such a tail, 1.5 times its own p99.
Status 1 if one of them does not hold.
"""

from __future__ import annotations

import argparse
import gc
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xxdeploy.runtime import Runtime, load

GROWTH, TAIL, BARE_TAIL = 0.02, 3.0, 1.5
_IMAGES, _PARTS = 16, 20


def resident() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell the memory of a process")


Call = Callable[[int], NDArray[np.float32]]


class Worker(threading.Thread):
    """Predicts until told to stop; keeps times in a histogram, so that its own memory does not grow."""

    def __init__(self, call: Call, right: Sequence[NDArray[np.float32]], stop: threading.Event) -> None:
        super().__init__()
        self.call, self.right, self.stopped = call, right, stop
        self.times = np.zeros(100_000, np.int64)  # of 0.01 ms
        self.wrong = 0

    def run(self) -> None:
        """Predict."""
        turn = 0
        while not self.stopped.is_set():
            index = turn % len(self.right)
            start = time.perf_counter()
            answer = self.call(index)
            place = int((time.perf_counter() - start) * 1e5)
            self.times[min(place, len(self.times) - 1)] += 1
            self.wrong += not np.array_equal(answer, self.right[index])
            turn += 1


def calls(runtime: Runtime) -> tuple[Call, Call]:
    """Return how image number n is predicted: through the runtime, and by the bare session."""
    p = runtime.manifest.preprocess
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (p.height, p.width, p.channels), np.uint8) for _ in range(_IMAGES)]
    predict = runtime.features if runtime.manifest.task == "features" else runtime.probabilities
    batches = [p.batch([image]) for image in images]
    return lambda index: predict(images[index]), lambda index: runtime.session.run(batches[index])


def burst(call: Call, threads: int, seconds: float) -> tuple[NDArray[np.int64], int]:
    """Run ``threads`` for so long; return their times (counts of 0.01 ms) and the number of wrong answers."""
    right = [call(index) for index in range(_IMAGES)]
    stop = threading.Event()
    workers = [Worker(call, right, stop) for _ in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    return np.sum([worker.times for worker in workers], axis=0), sum(worker.wrong for worker in workers)


def percentile(times: NDArray[np.int64], share: float) -> float:
    """Return milliseconds."""
    return float(np.searchsorted(np.cumsum(times), share * times.sum())) / 100


def main() -> int:
    """Soak and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    # One thread inside each run: eight callers and the pool of each would only wait for each other.
    runtime = load(options.bundle, threads=1)
    predict, bare = calls(runtime)
    seconds = options.minutes * 60
    total, capacity = np.zeros(100_000, np.int64), np.zeros(100_000, np.int64)
    wrong, first, last = 0, 0, 0
    for part in range(_PARTS):
        times, bad = burst(predict, options.threads, 0.8 * seconds / _PARTS)
        total, wrong = total + times, wrong + bad
        capacity = capacity + burst(bare, options.threads, 0.2 * seconds / _PARTS)[0]
        gc.collect()
        last = resident()
        if part == _PARTS // 4:  # arenas of threads and of the engine have grown to what they need
            first = last
    growth = last / first - 1
    p50, p99 = percentile(total, 0.5), percentile(total, 0.99)
    own50, own99 = percentile(capacity, 0.5), percentile(capacity, 0.99)
    print(f"{total.sum():,} predictions from {options.threads} threads in {options.minutes:g} minutes")
    print(f"memory {first / 1e6:.1f} -> {last / 1e6:.1f} MB ({growth:+.2%}, at most {GROWTH:.0%})")
    print(f"answers that differ from the first: {wrong}")
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms; the bare session in turns: p50 {own50:.2f} ms, p99 {own99:.2f} ms")
    print(f"p99 over the bare session's p50: {p99 / own50:.2f}x (at most {TAIL:g}x); over its p99: {p99 / own99:.2f}x")
    return int(growth >= GROWTH or wrong > 0 or (p99 > TAIL * own50 and p99 > BARE_TAIL * own99))


if __name__ == "__main__":
    raise SystemExit(main())
