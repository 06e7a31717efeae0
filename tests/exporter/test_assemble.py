"""The contents of a bundle: golden files, names, and evidence that can be read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xxdeploy.exporter import ExportResult
from xxdeploy.exporter.assemble import bundle_name, tool_versions
from xxdeploy.results import Evidence
from xxdeploy.runtime.bundle.contents import array_from_npy
from xxdeploy.runtime.bundle.files import open_bundle


def test_the_name_says_sample_weights_precision_and_target() -> None:
    assert bundle_name("lenet", "fp32") == "lenet-fp32"
    assert bundle_name("lenet", "int8", target="tensorrt-rtx") == "lenet-int8-tensorrt-rtx"
    assert bundle_name("lenet", "int8", weights="sample") == "lenet-sample-int8"


def test_only_installed_tools_are_listed() -> None:
    versions = tool_versions()
    assert {"xxdeploy", "numpy", "onnx"} <= set(versions)
    assert all(versions.values())


def test_files_with_the_same_answers_share_their_golden_file(lenet_bundle: Path) -> None:
    _, manifest = open_bundle(lenet_bundle)
    golden = {variant.name: variant.golden for variant in manifest.variants}
    assert golden == {
        "int8": "golden/outputs.npy", "int8-arm": "golden/outputs.npy", "int8-avx2": "golden/outputs-avx2.npy",
    }  # fmt: skip
    outputs = [array_from_npy((lenet_bundle / path).read_bytes(), "x") for path in sorted(set(golden.values()))]
    assert [array.shape for array in outputs] == [(4, 10), (4, 10)]
    assert 0.1 * max(float(np.abs(array).max()) for array in outputs) <= manifest.golden.tolerance


def test_the_evidence_is_that_of_the_result(lenet_export: ExportResult) -> None:
    _, manifest = open_bundle(lenet_export.bundle)
    evidence = Evidence.from_json(manifest.evidence)
    assert evidence.to_json() == manifest.evidence
    assert [parity.candidate for parity in evidence.parity] == [parity.candidate for parity in lenet_export.parities]
    assert [(rung.name, rung.comparison) for rung in evidence.ladder] == [
        (rung.name, rung.comparison) for rung in lenet_export.rungs
    ]
    assert evidence.accuracy is not None
    assert [row.runner for row in evidence.accuracy.runners] == [row.runner for row in lenet_export.rows]
    assert evidence.calibration is not None
    assert evidence.calibration.images <= 20
    assert "seconds" not in str(manifest.evidence)
