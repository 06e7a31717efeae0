import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xxdeploy import verify
from xxdeploy.artifacts import Progress
from xxdeploy.errors import MissingDependencyError, UsageError, VerificationError
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.pipeline import ExportPlan, export, prove, verify_bundle
from xxdeploy.runtime import load
from xxdeploy.verify import Comparison, Tolerance
from xxdeploy.verify.statistics import change_from_counts

LENET = find("lenet")


@pytest.fixture
def plan(images: Path) -> ExportPlan:
    return ExportPlan("int8", "none", calibration=images / "plain", evaluation=images / "labelled")


def contents(bundle: Path) -> dict[str, bytes]:
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_an_export_is_proven_complete_and_repeatable(plan: ExportPlan, images: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = export(LENET, plan, tmp_path / "one", on_progress=seen.append)
    # Nothing can be judged with random weights: every kind of processor gets a file of its own.
    assert [row.runner for row in result.rows] == ["keras", "onnx-fp32", "onnx-int8", "onnx-int8-avx2"]
    assert all(row.latency_p50_ms for row in result.rows)
    assert result.rows[1].agreement == 1.0
    assert result.rows[2].size_bytes is not None
    assert result.rows[0].size_bytes is not None
    assert result.rows[2].size_bytes < result.rows[0].size_bytes / 3
    # Each stage beside Keras, with graph optimisations off and on.
    assert [parity.candidate for parity in result.parities] == [
        "onnx-fp32, unoptimised", "onnx-fp32", "onnx-int8, unoptimised", "onnx-int8",
        "onnx-int8-avx2, unoptimised", "onnx-int8-avx2",
    ]  # fmt: skip
    assert [rung.rung for rung in result.rungs] == ["plain"]
    assert all(parity.max_abs < 1e-6 for parity in result.parities[:2])
    assert {"build", "calibrate", "accuracy keras", "accuracy onnx-int8", "write"} <= {event.step for event in seen}
    assert max(event.done for event in seen if event.step == "calibrate") == 20

    export(LENET, plan, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")

    evidence = result.bundle / "manifest.json"
    assert str(images) not in evidence.read_text()  # nothing about this machine's folders
    verified = verify_bundle(result.bundle, evaluation=images / "labelled")
    assert verified.selftest.images == 4
    rows = {row.runner: row for row in result.rows}
    picked = load(result.bundle).variant.name
    assert verified.rows[0].top1 == rows[f"onnx-{picked}"].top1
    picture = next((images / "plain").iterdir())
    assert len(load(result.bundle).predict(picture)) == 5


def test_the_second_export_reuses_the_calibration(plan: ExportPlan, tmp_path: Path) -> None:
    export(LENET, plan, tmp_path / "one")
    seen: list[Progress] = []
    export(LENET, replace(plan, force=True), tmp_path / "one", on_progress=seen.append)
    assert "calibrate" not in {event.step for event in seen}


def test_features_have_no_classes(images: Path, tmp_path: Path) -> None:
    options = BuildOptions(include_top=False, pooling="avg")
    result = export(LENET, ExportPlan("int8", "none", options, images / "plain"), tmp_path / "features")
    features = load(result.bundle).features(np.zeros((28, 28, 1), np.uint8))
    assert features.shape == (1, 64)
    assert result.rows[0].top1 is None
    with pytest.raises(UsageError, match="no classes"):
        verify_bundle(result.bundle, evaluation=images / "labelled")


def test_a_stage_outside_its_tolerance_leaves_nothing(
    plan: ExportPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "EXACT_PROBABILITIES", Tolerance("report it", max_abs=1e-12))
    with pytest.raises(VerificationError) as caught:
        export(LENET, plan, tmp_path / "out")
    assert caught.value.code == "parity"
    assert not (tmp_path / "out").exists()


def test_a_lost_point_leaves_the_old_bundle(plan: ExportPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(LENET, plan, tmp_path / "out")
    before = contents(tmp_path / "out")

    def judge_paired(*outputs: Any, **more: Any) -> Comparison:
        found = verify.judge_paired(*outputs, **more)
        lost = change_from_counts(0, 9, found.images) if found.candidate == "onnx-int8" else found.change
        return replace(found, right=(10, 1), change=lost)

    monkeypatch.setattr(prove, "judge_paired", judge_paired)
    with pytest.raises(VerificationError) as caught:
        export(LENET, replace(plan, max_drop=1.0, force=True), tmp_path / "out")
    assert caught.value.code == "accuracy-drop"
    assert contents(tmp_path / "out") == before


def test_an_existing_folder_is_refused_before_any_work(plan: ExportPlan, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    for force in (False, True):
        with pytest.raises(UsageError):
            export(
                LENET, replace(plan, force=force), tmp_path / "out", on_progress=lambda event: pytest.fail(event.step)
            )
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_on_a_device_the_export_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "onnx" or name.startswith(("xxdeploy.graph", "onnx."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError) as caught:
        export(LENET, ExportPlan(weights="none"), tmp_path / "out")
    assert "xxdeploy[export]" in caught.value.hint
