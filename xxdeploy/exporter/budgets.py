"""Limits on a bundle's latency, size on disk and memory, measured before it is written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from xxdeploy.bundle.pack import pack
from xxdeploy.errors import EngineError, VerificationError
from xxdeploy.exporter.option_groups import Budgets
from xxdeploy.runtime.bench import BenchResult, bench
from xxdeploy.runtime.bundle.manifest import Manifest

_ROUNDS = 30


def keep_budgets(
    budgets: Budgets,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    measure: Callable[..., BenchResult] = bench,
) -> tuple[str, ...]:
    """Measure the bundle, written to a temporary folder, against each budget; return a sentence about each.

    ``measure`` takes the folder, ``rounds`` and ``tuning``, as ``bench`` does.

    Raises
    ------
    VerificationError
        ``over-size``, ``over-latency``, ``over-memory``.
    EngineError
        ``memory-unknown``: this system does not report the memory of a process. Else as ``bench``.
    """
    said = []
    size = (sum(map(len, files.values())) + len(manifest.to_json())) / 1e6
    if budgets.max_size_mb is not None:
        model = max(len(content) for path, content in files.items() if path.endswith((".onnx", ".ort"))) / 1e6
        if size > budgets.max_size_mb:
            raise VerificationError(
                f"the bundle has {size:.2f} MB, more than --max-size-mb {budgets.max_size_mb:g}",
                hint=f"its largest model file has {model:.2f} MB; try --int8, a smaller --alpha, or one --cpu",
                code="over-size",
            )
        said.append(f"size {size:.2f} MB, at most {budgets.max_size_mb:g} allowed")
    if budgets.max_latency_ms is None and budgets.max_memory_mb is None:
        return tuple(said)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        measured = measure(pack(manifest, files, Path(folder) / "bundle"), rounds=_ROUNDS, tuning="off")
    if budgets.max_latency_ms is not None:
        if measured.p50_ms > budgets.max_latency_ms:
            raise VerificationError(
                f"an image takes {measured.p50_ms:.2f} ms on this machine (median of {measured.rounds}), "
                f"more than --max-latency-ms {budgets.max_latency_ms:g}",
                hint=f"the engine takes {measured.model_p50_ms:.2f} ms; try --int8, a smaller --alpha or --input-size",
                code="over-latency",
            )
        said.append(f"latency {measured.p50_ms:.2f} ms, at most {budgets.max_latency_ms:g} allowed")
    if budgets.max_memory_mb is not None:
        if measured.peak_memory_bytes is None:
            raise EngineError(
                "the memory of a process cannot be measured on this system",
                hint="leave --max-memory-mb out here, and use `xxdeploy bench` on the device",
                code="memory-unknown",
            )
        memory = measured.peak_memory_bytes / 1e6
        if memory > budgets.max_memory_mb:
            raise VerificationError(
                f"a process with the bundle takes {memory:.1f} MB, more than --max-memory-mb {budgets.max_memory_mb:g}",
                hint="Python and the engine alone are about 60 MB; try --int8, a smaller --alpha or --input-size",
                code="over-memory",
            )
        said.append(f"memory {memory:.1f} MB, at most {budgets.max_memory_mb:g} allowed")
    return tuple(said)
