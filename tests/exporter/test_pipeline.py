import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_contents import contents, without_report

from xxdeploy import verify
from xxdeploy.bundle.folder import check_bundle
from xxdeploy.diagnose.verify_bundle import verify_bundle
from xxdeploy.errors import BundleError, MissingDependencyError, UsageError, VerificationError
from xxdeploy.exporter import ExportOptions, ExportResult, export, stages
from xxdeploy.models.catalog import find
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.results import Progress
from xxdeploy.runtime import load
from xxdeploy.runtime.predictor import pick_variant
from xxdeploy.verify import Comparison, Tolerance
from xxdeploy.verify.statistics import change_from_counts

LENET = find("lenet")


@pytest.fixture
def plan(lenet_options: ExportOptions) -> ExportOptions:
    return lenet_options


def test_an_export_is_proven_complete_and_repeatable(
    plan: ExportOptions, lenet_export: ExportResult, images: Path, tmp_path: Path
) -> None:
    exported = lenet_export
    # Nothing can be judged with random weights: every kind of processor gets a file of its own.
    assert [row.runner for row in exported.rows] == ["keras", "onnx-fp32", "onnx-int8", "onnx-int8-avx2"]
    assert all(row.latency_p50_ms for row in exported.rows)
    assert exported.rows[1].agreement == 1.0
    assert exported.rows[2].size_bytes is not None
    assert exported.rows[0].size_bytes is not None
    assert exported.rows[2].size_bytes < exported.rows[0].size_bytes / 3
    # Each stage beside Keras, with graph optimizations off and on.
    assert [parity.candidate for parity in exported.parities] == [
        "onnx-fp32, unoptimized", "onnx-fp32", "onnx-int8, unoptimized", "onnx-int8",
        "onnx-int8-avx2, unoptimized", "onnx-int8-avx2",
    ]  # fmt: skip
    assert [rung.name for rung in exported.rungs] == ["plain"]
    assert all(parity.max_abs < 1e-6 for parity in exported.parities[:2])
    seen: list[Progress] = []
    export(LENET, plan, tmp_path / "again", on_progress=seen.append)
    assert without_report(exported.bundle) == without_report(tmp_path / "again")
    assert {"build", "calibrate", "accuracy keras", "accuracy onnx-int8", "write"} <= {event.step for event in seen}
    assert max(event.done for event in seen if event.step == "calibrate") == 20

    evidence = exported.bundle / "manifest.json"
    assert str(images) not in evidence.read_text()  # nothing about this machine's folders
    verified = verify_bundle(exported.bundle, evaluation=images / "labelled")
    assert verified.selftest.images == 4
    rows = {row.runner: row for row in exported.rows}
    picked = load(exported.bundle).variant.name
    assert verified.rows[0].top1 == rows[f"onnx-{picked}"].top1
    picture = next((images / "plain").iterdir())
    assert len(load(exported.bundle).predict(picture)) == 5


def test_every_processor_picks_its_file_and_every_file_passes_its_golden_pairs(lenet_bundle: Path) -> None:
    manifest = load(lenet_bundle).manifest
    for features, name in (
        ({"vnni", "avx2"}, "int8"),
        ({"avx2"}, "int8-avx2"),
        ({"arm"}, "int8-arm"),
        ({"arm", "dotprod"}, "int8-arm"),
        (set(), "int8-avx2"),
    ):
        assert pick_variant(manifest, frozenset(features)).name == name
    assert {variant.name: variant.scheme for variant in manifest.variants} == {
        "int8": "static-w8c-a8", "int8-arm": "static-w8c-a8i", "int8-avx2": "static-w8c-a8",
    }  # fmt: skip
    golden = {variant.name: variant.golden for variant in manifest.variants}
    assert golden["int8"] == golden["int8-arm"] == "golden/outputs.npy"  # the same integers, the same answers
    assert golden["int8-avx2"] == "golden/outputs-avx2.npy"
    for variant in manifest.variants:
        assert load(lenet_bundle, variant=variant.name, selftest=True).variant == variant


@pytest.mark.parametrize(("cpu", "name"), [("vnni", "int8"), ("avx2", "int8-avx2"), ("arm", "int8-arm")])
def test_a_bundle_for_one_kind_of_processor(plan: ExportOptions, tmp_path: Path, cpu: str, name: str) -> None:
    bundle = export(LENET, plan.changed(cpu=cpu, evaluation=None), tmp_path / cpu).bundle
    manifest = load(bundle, variant=name, selftest=True).manifest
    assert [variant.name for variant in manifest.variants] == [name]
    if cpu != "avx2":
        with pytest.raises(BundleError) as caught:
            pick_variant(manifest, frozenset({"avx2"}))
        assert caught.value.code == "no-variant"


def test_the_sample_export_is_honest_and_repeatable(tmp_path: Path) -> None:
    promised = {"max_drop": 2.0, "min_agreement": 95.0}
    plan = ExportOptions.of("int8", weights="sample", cpu="vnni", card=True, bom=True, **promised)
    exported = export(LENET, plan, tmp_path / "one")
    listed = {entry.path for entry in check_bundle(tmp_path / "one").files}
    assert {"README.md", "bom.cdx.json"} <= listed
    assert any("no preprocessor_config.json was written" in said for said in exported.conclusions.sentences)
    assert [(rung.name, rung.comparison.images) for rung in exported.rungs] == [("plain", 50)]
    assert len(exported.conclusions.promises) == 2 * len(exported.rows[2:])  # both promises, for each model of its own
    assert all(line.startswith("PASS ") for line in exported.conclusions.promises)
    export(LENET, plan, tmp_path / "two")
    assert without_report(tmp_path / "one") == without_report(tmp_path / "two")
    evidence = json.loads((tmp_path / "one" / "manifest.json").read_text())["evidence"]
    assert evidence["recipe"] == QuantizationRecipe().to_json()
    assert [processor["cpu"] for processor in evidence["processors"]] == ["vnni", "avx2", "arm"]
    assert [each["rung"] for each in evidence["ladder"]] == ["plain"]


def test_a_promise_that_is_broken_says_what_helps_and_writes_nothing(tmp_path: Path, images: Path) -> None:
    """Ranges of noise, pinned: classes change, and no promise of none is kept."""
    plan = ExportOptions.of(
        "int8", weights="sample", calibration=images / "plain", cpu="vnni", recipe=str(tmp_path / "worst.toml")
    )
    (tmp_path / "worst.toml").write_text('calibrator = "percentile-60"')
    export(LENET, plan, tmp_path / "out")
    before = contents(tmp_path / "out")
    drop, agreement = plan.changed(force=True, max_drop=0.0), plan.changed(force=True, min_agreement=100.0)
    for promised, code in (drop, "accuracy-drop"), (agreement, "agreement-low"):
        for out in ("new", "out"):
            with pytest.raises(VerificationError) as caught:
                export(LENET, promised, tmp_path / out)
            assert caught.value.code == code
            assert caught.value.message.startswith("FAIL ")
            assert "most sensitive layers" in caught.value.hint
    assert not (tmp_path / "new").exists()
    assert contents(tmp_path / "out") == before


def test_the_second_export_reuses_the_calibration(plan: ExportOptions, tmp_path: Path) -> None:
    export(LENET, plan, tmp_path / "one")
    seen: list[Progress] = []
    export(LENET, plan.changed(force=True), tmp_path / "one", on_progress=seen.append)
    assert "calibrate" not in {event.step for event in seen}


def test_features_have_no_classes(images: Path, tmp_path: Path) -> None:
    plan = ExportOptions.of("int8", weights="none", no_top=True, pooling="avg", calibration=images / "plain")
    exported = export(LENET, plan, tmp_path / "features")
    features = load(exported.bundle).features(np.zeros((28, 28, 1), np.uint8))
    assert features.shape == (1, 64)
    assert exported.rows[0].top1 is None
    with pytest.raises(UsageError, match="its task is features"):
        verify_bundle(exported.bundle, evaluation=images / "labelled")


def test_a_stage_outside_its_tolerance_leaves_nothing(
    plan: ExportOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "EXACT_PROBABILITIES", Tolerance("report it", cosine=2.0))  # no cosine is
    with pytest.raises(VerificationError) as caught:
        export(LENET, plan, tmp_path / "out")
    assert caught.value.code == "parity"
    assert not (tmp_path / "out").exists()


def test_a_lost_point_leaves_the_old_bundle(
    plan: ExportOptions, lenet_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(lenet_bundle, tmp_path / "out")
    before = contents(tmp_path / "out")

    def judge_paired(*outputs: Any, **more: Any) -> Comparison:
        comparison = verify.judge_paired(*outputs, **more)
        lost = change_from_counts(0, 9, comparison.images) if comparison.candidate == "onnx-int8" else comparison.change
        return replace(comparison, right=(10, 1), change=lost)

    monkeypatch.setattr(stages, "judge_paired", judge_paired)
    with pytest.raises(VerificationError) as caught:
        export(LENET, plan.changed(max_drop=1.0, force=True), tmp_path / "out")
    assert caught.value.code == "accuracy-drop"
    assert contents(tmp_path / "out") == before


def test_an_existing_folder_is_refused_before_any_work(plan: ExportOptions, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    for force in (False, True):
        with pytest.raises(UsageError):
            export(
                LENET, plan.changed(force=force), tmp_path / "out", on_progress=lambda event: pytest.fail(event.step)
            )
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_on_a_device_the_export_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "onnx" or name.startswith(("xxdeploy.passes", "onnx."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError) as caught:
        export(LENET, ExportOptions.of(weights="none"), tmp_path / "out")
    assert "xxdeploy[export]" in caught.value.hint
