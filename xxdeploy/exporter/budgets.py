"""What a bundle may cost: milliseconds, megabytes on disk, megabytes of memory. Measured before it is written."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.bundle.pack import pack
from xxdeploy.errors import EngineError, UsageError, VerificationError
from xxdeploy.runtime.bench import bench
from xxdeploy.runtime.bundle.manifest import Manifest

_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of an export; None is no limit.

    ``latency_ms``: median of single images, decoded and at input size, to the answer, on this machine with the
    runtime's defaults. ``size_mb``: all files of the bundle, 10^6 bytes. ``memory_mb``: peak of a fresh Python process
    that loads the bundle and answers once, 10^6 bytes; the interpreter, numpy and the engine are about 60 of them.

    Raises
    ------
    UsageError
        ``limit-invalid``: a limit that is not a positive number.
    """

    latency_ms: float | None = None
    size_mb: float | None = None
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-latency-ms", self.latency_ms),
            ("--max-size-mb", self.size_mb),
            ("--max-memory-mb", self.memory_mb),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(
                    f"{option} must be a positive number, not {value}", hint="or leave it out", code="limit-invalid"
                )


NO_LIMITS = Limits()


def keep_limits(limits: Limits, manifest: Manifest, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Measure what is limited, on a bundle in a temporary folder; return a sentence about each limit.

    Raises
    ------
    VerificationError
        ``over-size``, ``over-latency``, ``over-memory``.
    EngineError
        ``memory-unknown``: this system does not tell how much memory a process took. Else as ``bench``.
    """
    said = []
    size = (sum(map(len, files.values())) + len(manifest.to_json())) / 1e6
    if limits.size_mb is not None:
        model = max(len(data) for path, data in files.items() if path.endswith(".onnx")) / 1e6
        if size > limits.size_mb:
            raise VerificationError(
                f"the bundle has {size:.2f} MB, more than --max-size-mb {limits.size_mb:g}",
                hint=f"its largest model file has {model:.2f} MB; try --int8, a smaller --alpha, or one --cpu",
                code="over-size",
            )
        said.append(f"size {size:.2f} MB, at most {limits.size_mb:g} allowed")
    if limits.latency_ms is None and limits.memory_mb is None:
        return tuple(said)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        found = bench(pack(manifest, files, Path(folder) / "bundle"), rounds=_ROUNDS, tuned=False)
    if limits.latency_ms is not None:
        if found.p50_ms > limits.latency_ms:
            raise VerificationError(
                f"an image takes {found.p50_ms:.2f} ms on this machine (median of {found.rounds}), "
                f"more than --max-latency-ms {limits.latency_ms:g}",
                hint=f"of that the engine {found.model_p50_ms:.2f} ms; try --int8, a smaller --alpha or --input-size",
                code="over-latency",
            )
        said.append(f"latency {found.p50_ms:.2f} ms, at most {limits.latency_ms:g} allowed")
    if limits.memory_mb is not None:
        if found.peak_memory_bytes is None:
            raise EngineError(
                "this system does not tell how much memory a process takes",
                hint="leave --max-memory-mb out here, and use `xxdeploy bench` on the device",
                code="memory-unknown",
            )
        memory = found.peak_memory_bytes / 1e6
        if memory > limits.memory_mb:
            raise VerificationError(
                f"a process with the bundle takes {memory:.1f} MB, more than --max-memory-mb {limits.memory_mb:g}",
                hint="Python and the engine alone are about 60 MB; try --int8, a smaller --alpha or --input-size",
                code="over-memory",
            )
        said.append(f"memory {memory:.1f} MB, at most {limits.memory_mb:g} allowed")
    return tuple(said)
