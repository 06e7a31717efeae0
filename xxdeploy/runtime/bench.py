"""How fast a bundle is on this device: latency, throughput, cold start, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import EngineError, UsageError
from xxdeploy.files import child_python
from xxdeploy.runtime.bundle.tasks import TASKS
from xxdeploy.runtime.engines.session import batch_for
from xxdeploy.runtime.inputs import random_samples
from xxdeploy.runtime.predictor import Runtime, load
from xxdeploy.runtime.selftest import MAX_BATCH

MAX_ROUNDS = 100_000
_WARM_UP = 5
_STARTS = 3
_START_SECONDS = 600

# VmHWM and not ru_maxrss: on Linux the latter begins at the parent's peak.
STARTED = """
import json, sys
from xxdeploy.runtime.bench import peak_memory
from xxdeploy.runtime.bundle.tasks import TASKS
from xxdeploy.runtime.inputs import random_samples
from xxdeploy.runtime.predictor import load
bundle, options = json.loads(sys.argv[1])
runtime = load(bundle, **options)
image = random_samples(runtime.manifest.form, 1)[0]
getattr(runtime, TASKS[runtime.manifest.task].method)(image)
print(json.dumps(peak_memory()), flush=True)
"""
"""The program that :func:`cold_start` runs in a fresh process."""


Start = Callable[[Runtime, Mapping[str, object]], tuple[float, int | None]]
"""Measures a cold start: given a loaded bundle and its options, returns seconds and peak bytes (None: not known)."""


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The figures of one bundle, in milliseconds unless a name says otherwise.

    ``p50_ms``, ``p90_ms``, ``p99_ms``: one decoded image (uint8, at input size) to the output, normalizing
    included. ``model_p50_ms``: the engine alone. ``images_per_second``: in batches of ``MAX_BATCH``.
    ``cold_start_ms``: from starting a Python process to the first answer, hashes checked.
    ``peak_memory_bytes``: of that process; None where the system does not tell. Both are medians of a few processes.
    ``settings`` names the engine and its settings. ``speed`` is the first subject's time over this one's,
    the median of that ratio round by round, ``speed_low`` and ``speed_high`` its quartiles.
    """

    bundle: str
    variant: str
    engine: str
    settings: str
    threads: int | None
    rounds: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    model_p50_ms: float
    images_per_second: float
    cold_start_ms: float
    peak_memory_bytes: int | None
    speed: float = 1.0
    speed_low: float = 1.0
    speed_high: float = 1.0


def bench(
    bundle: str | os.PathLike[str],
    *,
    rounds: int = 50,
    threads: int | None = None,
    engine: str | None = None,
    tuning: str = "stored",
) -> BenchResult:
    """Measure one bundle. Parameters and errors as ``bench_many``."""
    return bench_many([bundle], rounds=rounds, threads=threads, engines=(engine,), tuning=tuning)[0]


def bench_many(
    bundles: Sequence[str | os.PathLike[str]],
    *,
    rounds: int = 50,
    threads: int | None = None,
    engines: Sequence[str | None] = (None,),
    tuning: str = "stored",
    on_round: Callable[[int, int], None] | None = None,
    start: Start | None = None,
) -> tuple[BenchResult, ...]:
    """Measure each bundle in each engine, interleaved, so that a busy moment of the machine slows all of them alike.

    ``rounds`` are the timed runs of each, after a warm-up; ``threads``, ``engines`` and ``tuning`` are as in ``load``
    (engine None: its choice). ``on_round`` is called with (rounds done, rounds); ``start`` measures a cold start in
    place of :func:`cold_start`. ``UsageError``: ``rounds-invalid``,
    ``no-bundles``; ``EngineError`` ``bench-child``: the process that measures the cold start failed; else as ``load``.
    """
    if not 1 <= rounds <= MAX_ROUNDS:
        raise UsageError(
            f"rounds must be 1 to {MAX_ROUNDS}, not {rounds}", hint="50 is a good number", code="rounds-invalid"
        )
    if not bundles or not engines:
        raise UsageError("there is no bundle to measure", hint="give at least one folder", code="no-bundles")
    subjects = [
        _Subject(load(bundle, threads=threads, engine=engine, tuning=tuning), threads, engine, tuning)
        for bundle in bundles
        for engine in engines
    ]
    begin = start or cold_start
    starts = [[begin(subject.runtime, subject.options) for subject in subjects] for _ in range(_STARTS)]
    for subject in subjects:
        for _ in range(_WARM_UP):
            subject.round()
    times = np.empty((3, len(subjects), rounds))  # whole, model, batch
    for number in range(rounds):
        for row, subject in enumerate(subjects):
            times[:, row, number] = subject.round()
        if on_round is not None:
            on_round(number + 1, rounds)
    return tuple(
        _result(subject, times[:, row], times[0, 0], [start[row] for start in starts])
        for row, subject in enumerate(subjects)
    )


def peak_memory() -> int | None:
    """Return the largest resident memory of this process so far in bytes, None where it cannot be known."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Subject:
    """A loaded bundle and its input, made once, so that the runtime alone is timed."""

    def __init__(self, runtime: Runtime, threads: int | None, engine: str | None, tuning: str) -> None:
        self.runtime = runtime
        self.options: Mapping[str, object] = {"threads": threads, "engine": engine, "tuning": tuning}
        p = runtime.manifest.form
        self.images = random_samples(p, MAX_BATCH)
        self.batch = batch_for(runtime.session, p, p.pixels(self.images[:1]))
        self.call: Callable[[Any], object] = getattr(runtime, TASKS[runtime.manifest.task].method)

    def round(self) -> tuple[float, float, float]:
        """Time, in seconds, one image through the runtime, one through the engine alone, and one batch."""
        start = time.perf_counter()
        self.call(self.images[0])
        whole = time.perf_counter()
        self.runtime.session.run(self.batch)
        model = time.perf_counter()
        self.call(self.images)
        return whole - start, model - whole, time.perf_counter() - model


def _result(
    subject: _Subject,
    times: NDArray[np.float64],
    first: NDArray[np.float64],
    starts: Sequence[tuple[float, int | None]],
) -> BenchResult:
    runtime, (whole, model, batch) = subject.runtime, times
    p50, p90, p99 = (float(value) for value in np.percentile(whole * 1e3, (50, 90, 99)))
    low, speed, high = (float(value) for value in np.percentile(first / whole, (25, 50, 75)))
    peaks = [peak for _, peak in starts if peak is not None]
    return BenchResult(
        bundle=runtime.manifest.name,
        variant=runtime.variant.name,
        engine=runtime.session.name,
        settings=str(runtime.settings),
        threads=runtime.settings.threads if runtime.settings else None,
        rounds=len(whole),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        model_p50_ms=float(np.median(model)) * 1e3,
        images_per_second=MAX_BATCH / float(np.median(batch)),
        cold_start_ms=float(np.median([seconds for seconds, _ in starts])) * 1e3,
        peak_memory_bytes=int(np.median(peaks)) if peaks else None,
        speed=speed,
        speed_low=low,
        speed_high=high,
    )


def cold_start(runtime: Runtime, options: Mapping[str, object], *, program: str = STARTED) -> tuple[float, int | None]:
    """Return seconds from process start to first answer, and that process's peak memory in bytes (None: not known).

    ``options`` are those of ``load``. ``EngineError`` ``bench-child``: the process failed.
    """
    arguments = json.dumps([str(runtime.root), dict(options)])
    command, environment = child_python("-c", program, arguments)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=_START_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        raise EngineError(
            f"a fresh process could not run {runtime.manifest.name}: {str(output).strip().splitlines()[-1][:300]}",
            hint="try `xxdeploy predict` on this bundle",
            code="bench-child",
        ) from error
    return time.perf_counter() - start, json.loads(done.stdout)
