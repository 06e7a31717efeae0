"""Load a bundle once and predict from several threads for minutes; check memory, results and latency.

    python scripts/soak.py BUNDLE --minutes 5 --threads 8

The same threads also run a bare ONNX Runtime session without xxdeploy, interleaved, which measures the capacity of the
machine: with more threads than cores, a call mostly waits for a core. The exit status is 1 unless

- resident memory at the end is less than 2 % above that after the first quarter. Until then the arenas of the engine
  and of the threads grow to their final size; a leak would continue, so the growth of the second half is printed, too.
- every result is equal to the first result for the image in every bit.
- p99 is at most 3 times the p50 of the bare session. If the bare session's own p99 is higher than that, the script says
  so and requires 1.5 times that p99.
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
_STEPS = 100_000  # of 0.01 ms: up to a second


def resident() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell the memory of a process")


Call = Callable[[int], NDArray[np.float32]]


class Worker(threading.Thread):
    """Predicts until told to stop; counts times (in steps of 0.01 ms) in an array that is already allocated."""

    def __init__(
        self, call: Call, right: Sequence[NDArray[np.float32]], stop: threading.Event, times: NDArray[np.int64]
    ) -> None:
        super().__init__()
        self.call, self.right, self.stopped, self.times = call, right, stop, times
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


class Side:
    """One of the two interleaved sides: its first results, and all its times so far.

    The counters are allocated once: new ones in each round would be as large as the growth to be measured.
    """

    def __init__(self, call: Call, threads: int) -> None:
        self.call, self.wrong = call, 0
        self.right = [call(index).copy() for index in range(_IMAGES)]
        self._times = np.zeros((threads, _STEPS), np.int64)

    def burst(self, seconds: float) -> None:
        """Let every thread predict for ``seconds``."""
        stop = threading.Event()
        workers = [Worker(self.call, self.right, stop, times) for times in self._times]
        for worker in workers:
            worker.start()
        time.sleep(seconds)
        stop.set()
        for worker in workers:
            worker.join()
        self.wrong += sum(worker.wrong for worker in workers)

    @property
    def calls(self) -> int:
        """Return the number of calls."""
        return int(self._times.sum())

    def percentile(self, share: float) -> float:
        """Return the time in milliseconds below which this ``share`` of the calls stays."""
        times = self._times.sum(0)
        return float(np.searchsorted(np.cumsum(times), share * times.sum())) / 100


def calls(runtime: Runtime) -> tuple[Call, Call]:
    """Return two functions that predict image number n: by the runtime, and by the bare session."""
    p = runtime.manifest.picture
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (p.height, p.width, p.channels), np.uint8) for _ in range(_IMAGES)]
    predict = runtime.features if runtime.manifest.task == "features" else runtime.probabilities
    batches = [p.batch([image]) for image in images]
    return lambda index: predict(images[index]), lambda index: runtime.session.run(batches[index])


def main() -> int:
    """Soak and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    # One thread inside each run: eight callers and the pool of each would only wait for each other.
    runtime = load(options.bundle, threads=1)
    ours, bare = (Side(call, options.threads) for call in calls(runtime))
    seconds, memory = options.minutes * 60, []
    for _ in range(_PARTS):
        ours.burst(0.8 * seconds / _PARTS)
        bare.burst(0.2 * seconds / _PARTS)
        gc.collect()
        memory.append(resident())
    start, quarter, half, end = (memory[part - 1] for part in (1, _PARTS // 4, _PARTS // 2, _PARTS))
    growth, wrong = end / quarter - 1, ours.wrong + bare.wrong
    p50, p99, own50, own99 = (side.percentile(share) for side in (ours, bare) for share in (0.5, 0.99))
    print(f"{ours.calls:,} predictions from {options.threads} threads in {options.minutes:g} minutes")
    print(f"memory after the first round, a quarter, a half, at the end: {_megabytes(start, quarter, half, end)} MB")
    print(f"growth after the quarter {growth:+.2%} (below {GROWTH:.0%}), in the second half {end / half - 1:+.2%}")
    print(f"results that differ from the first: {wrong} of {ours.calls + bare.calls:,}")
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms; the bare session, interleaved: p50 {own50:.2f} ms, p99 {own99:.2f} ms")
    print(
        f"p99 divided by the bare session's p50: {p99 / own50:.2f}x (at most {TAIL:g}x); by its p99: {p99 / own99:.2f}x"
    )
    tail = p99 > TAIL * own50
    if tail and own99 > TAIL * own50:
        print(f"the bare session's p99 is {own99 / own50:.2f}x its p50: its p99 counts (at most {BARE_TAIL:g}x)")
        tail = p99 > BARE_TAIL * own99
    return int(growth >= GROWTH or wrong > 0 or tail)


def _megabytes(*sizes: int) -> str:
    return ", ".join(f"{size / 1e6:.1f}" for size in sizes)


if __name__ == "__main__":
    raise SystemExit(main())
