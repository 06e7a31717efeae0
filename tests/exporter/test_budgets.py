"""Budgets: what is too large, too slow or takes too much memory is not written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.errors import EngineError, UsageError, VerificationError
from xxdeploy.exporter import Budgets, ExportOptions, export
from xxdeploy.exporter.promises import keep_budgets
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load
from xxdeploy.runtime.bench import BenchResult, bench
from xxdeploy.runtime.tune_store import runnable_variants


def test_limits_that_are_kept_are_said() -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    assert keep_budgets(Budgets(), manifest, parts) == ()
    size, latency, memory = keep_budgets(Budgets(1000.0, 0.5, 4000.0), manifest, parts)
    assert size.startswith("size 0.00 MB, at most 0.5")
    assert 0 < float(latency.split()[1]) < 1000
    assert 20 < float(memory.split()[1]) < 1000


@pytest.mark.parametrize(
    ("broken", "code", "words"),
    [
        (Budgets(max_size_mb=1e-4), "over-size", "more than --max-size-mb 0.0001"),
        (Budgets(max_latency_ms=1e-6), "over-latency", "more than --max-latency-ms 1e-06"),
        (Budgets(max_memory_mb=1.0), "over-memory", "more than --max-memory-mb 1"),
    ],
)
def test_a_limit_that_is_broken_is_an_error(broken: Budgets, code: str, words: str) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    with pytest.raises(VerificationError) as caught:
        keep_budgets(broken, manifest, parts)
    assert caught.value.code == code
    assert caught.value.message.endswith(words)


def test_memory_that_nobody_tells() -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()

    def silent(bundle: Path, *, rounds: int, tuning: str) -> BenchResult:
        return replace(bench(bundle, rounds=rounds, tuning=tuning), peak_memory_bytes=None)

    with pytest.raises(EngineError) as caught:
        keep_budgets(Budgets(max_memory_mb=100.0), manifest, parts, measure=silent)
    assert caught.value.code == "memory-unknown"


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_limits_that_make_no_sense(value: float) -> None:
    with pytest.raises(UsageError) as caught:
        Budgets(max_size_mb=value)
    assert caught.value.code == "limit-invalid"


def test_an_export_over_its_budget_writes_nothing(tmp_path: Path) -> None:
    plan = ExportOptions.of(weights="none", max_size_mb=0.01)
    with pytest.raises(VerificationError) as caught:
        export(find("lenet"), plan, tmp_path / "out")
    assert caught.value.code == "over-size"
    assert list(tmp_path.iterdir()) == []


def test_fp32_beside_int8_is_the_last_choice_and_is_proved(tmp_path: Path, images: Path) -> None:
    plan = ExportOptions.of("int8", weights="none", calibration=images / "plain", keep_fp32=True, max_size_mb=5.0)
    exported = export(find("lenet"), plan, tmp_path / "out")
    assert exported.conclusions.sentences[-1].startswith("size ")
    manifest = load(exported.bundle).manifest
    assert manifest.variants[-1].precision == "fp32"
    assert manifest.variants[-1].model == "model-fp32.onnx"
    assert manifest.variants[0].precision == "int8"
    assert manifest.variants[0].model == "model.onnx"
    variants = runnable_variants(manifest, frozenset({"avx2", "vnni"}))
    assert [each.precision for each in variants] == ["int8", "fp32"]
    assert load(exported.bundle, variant="fp32", selftest=True).session.name == "onnx-fp32"
