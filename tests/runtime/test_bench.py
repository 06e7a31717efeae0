"""The measurements measure: what is slower is slower, what needs memory shows it."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from xxdeploy.errors import BundleError, EngineError, UsageError
from xxdeploy.runtime.bench import bench, bench_many, cold_start, peak_memory
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.predictor import load
from xxdeploy.runtime.selftest import MAX_BATCH


def test_one_bundle(tmp_path: Path) -> None:
    figures = bench(tiny_bundle.make(tmp_path / "b"), rounds=20, threads=1)
    assert (figures.bundle, figures.variant, figures.engine) == ("tiny-0", "portable", "onnx-fp32")
    assert (figures.rounds, figures.threads, figures.settings) == (20, 1, "onnxruntime, 1 thread")
    assert (figures.speed, figures.speed_low, figures.speed_high) == (1.0, 1.0, 1.0)
    assert 0 < figures.p50_ms <= figures.p90_ms <= figures.p99_ms
    assert 0 < figures.model_p50_ms < figures.p50_ms
    assert figures.images_per_second > 0
    assert figures.cold_start_ms > 20  # Python, numpy and onnxruntime do not start faster
    assert figures.peak_memory_bytes is not None
    assert 10e6 < figures.peak_memory_bytes < 1e9


def test_several_bundles_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session made slow shows in its own row only, and the order of the calls alternates."""
    calls: list[int] = []
    plain = OrtSession.run

    def run(self: OrtSession, batch: np.ndarray) -> np.ndarray:
        slow = self.output_name == "features"
        calls.append(int(slow))
        time.sleep(0.02 * slow)
        return plain(self, batch)

    monkeypatch.setattr(OrtSession, "run", run)
    ticks: list[tuple[int, int]] = []
    fast, slow = bench_many(
        [tiny_bundle.make(tmp_path / "a"), tiny_bundle.make(tmp_path / "b", features=True)],
        rounds=4,
        on_round=lambda done, total: ticks.append((done, total)),
        start=lambda *_: (1.0, None),
    )
    assert slow.p50_ms > 20 > fast.p50_ms
    assert slow.images_per_second < MAX_BATCH / 0.02 < fast.images_per_second
    assert fast.peak_memory_bytes is None
    assert slow.speed_low <= slow.speed <= slow.speed_high < 1
    assert calls[-12:] == [0, 0, 0, 1, 1, 1] * 2
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert dataclasses.asdict(fast)["cold_start_ms"] == 1000.0


def test_memory_of_this_process_does_not_leak_into_the_childs(tmp_path: Path) -> None:
    ballast = np.ones(400_000_000, np.uint8)
    figures = bench(tiny_bundle.make(tmp_path / "b"), rounds=1)
    mine = peak_memory()
    assert mine is not None
    assert mine > ballast.nbytes
    assert figures.peak_memory_bytes is not None
    assert figures.peak_memory_bytes < ballast.nbytes


@pytest.mark.parametrize("rounds", [0, -1, 10**9])
def test_rounds_out_of_range(tmp_path: Path, rounds: int) -> None:
    with pytest.raises(UsageError) as caught:
        bench(tmp_path, rounds=rounds)
    assert caught.value.code == "rounds-invalid"


def test_no_bundle() -> None:
    with pytest.raises(UsageError) as caught:
        bench_many([])
    assert caught.value.code == "no-bundles"
    with pytest.raises(BundleError):
        bench("/absent")


def test_a_child_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    with pytest.raises(EngineError) as caught:
        cold_start(load(bundle), {}, program="raise SystemExit('no room')")
    assert caught.value.code == "bench-child"
    assert "no room" in caught.value.message
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(EngineError):
        bench(bundle, rounds=1)
