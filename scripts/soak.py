"""Load a bundle once and predict from several threads for minutes: memory, answers, and times beside what they must be.

    python scripts/soak.py BUNDLE --minutes 5 --threads 8

The machine's own capacity is measured first: p50 of the same threads in a short burst. What is asked: resident memory
grows by less than 2 % after the first tenth, every answer is bit for bit the first one, and p99 is at most 3 times that
p50. Status 1 if one of them does not hold.
"""

from __future__ import annotations

import argparse
import gc
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xxdeploy.runtime import Runtime, load

GROWTH, TAIL = 0.02, 3.0
_IMAGES = 16


def resident() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell the memory of a process")


class Worker(threading.Thread):
    """Predicts until told to stop; keeps times in a histogram, so that its own memory does not grow."""

    def __init__(
        self, runtime: Runtime, images: list[NDArray[np.uint8]], right: list[NDArray[np.float32]], stop: threading.Event
    ) -> None:
        super().__init__()
        self.runtime, self.images, self.right, self.stopped = runtime, images, right, stop
        self.times = np.zeros(100_000, np.int64)  # of 0.01 ms
        self.wrong = 0

    def run(self) -> None:
        """Predict."""
        turn = 0
        call = self.runtime.features if self.runtime.manifest.task == "features" else self.runtime.probabilities
        while not self.stopped.is_set():
            index = turn % len(self.images)
            start = time.perf_counter()
            answer = call(self.images[index])
            place = int((time.perf_counter() - start) * 1e5)
            self.times[min(place, len(self.times) - 1)] += 1
            self.wrong += not np.array_equal(answer, self.right[index])
            turn += 1


def burst(runtime: Runtime, threads: int, seconds: float) -> tuple[NDArray[np.int64], int]:
    """Run ``threads`` for so long; return their times (counts of 0.01 ms) and the number of wrong answers."""
    p = runtime.manifest.preprocess
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (p.height, p.width, p.channels), np.uint8) for _ in range(_IMAGES)]
    call = runtime.features if runtime.manifest.task == "features" else runtime.probabilities
    right = [call(image) for image in images]
    stop = threading.Event()
    workers = [Worker(runtime, images, right, stop) for _ in range(threads)]
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
    seconds = options.minutes * 60
    capacity = percentile(burst(runtime, options.threads, min(10.0, seconds / 4))[0], 0.5)
    total = np.zeros(100_000, np.int64)
    wrong, first, last = 0, 0, 0
    parts = 20
    for part in range(parts):
        times, bad = burst(runtime, options.threads, seconds / parts)
        total, wrong = total + times, wrong + bad
        gc.collect()
        last = resident()
        if part == parts // 10:
            first = last
    growth = last / first - 1
    p50, p99 = percentile(total, 0.5), percentile(total, 0.99)
    print(f"{total.sum():,} predictions from {options.threads} threads in {options.minutes:g} minutes")
    print(f"memory {first / 1e6:.1f} -> {last / 1e6:.1f} MB ({growth:+.2%}, at most {GROWTH:.0%})")
    print(f"answers that differ from the first: {wrong}")
    print(
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms; capacity p50 {capacity:.2f} ms: {p99 / capacity:.2f}x, at most {TAIL:g}x"
    )
    return int(growth >= GROWTH or wrong > 0 or p99 > TAIL * capacity)


if __name__ == "__main__":
    raise SystemExit(main())
