"""``export --fp16``: ranges looked at, layers that stay, a bundle that runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from xxdeploy.diagnose.verify_bundle import verify_bundle
from xxdeploy.errors import UsageError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.exporter.fp16 import make_fp16
from xxdeploy.exporter.inputs import Inputs, catalog_inputs
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime import load

LENET = find("lenet")


def test_a_sample_keeps_its_classes_in_half_the_size(tmp_path: Path) -> None:
    plan = ExportOptions.of("fp16", weights="sample", min_agreement=99.0, max_drop=1.0)
    exported = export(LENET, plan, tmp_path / "b")
    rows = {row.runner: row for row in exported.rows}
    assert rows["onnx-fp16"].agreement is not None
    assert rows["onnx-fp16"].agreement > 0.99
    half, whole = rows["onnx-fp16"].size_bytes, rows["onnx-fp32"].size_bytes
    assert half is not None
    assert whole is not None
    assert half < 0.55 * whole
    assert any(sentence.startswith("fp16: values up to") for sentence in exported.conclusions.sentences)
    runtime = load(exported.bundle, selftest=True)
    assert runtime.variant.precision == "fp16"
    manifest = verify_bundle(exported.bundle).manifest
    assert manifest.name == "lenet-sample-fp16"
    assert manifest.evidence["fp16"] == {"kept": {}, "largest": pytest.approx(manifest.evidence["fp16"]["largest"])}  # type: ignore[index,call-overload]


def test_without_images_the_message_says_so(tmp_path: Path) -> None:
    exported = export(LENET, ExportOptions.of("fp16", weights="none"), tmp_path / "b")
    assert any("no ranges were checked" in sentence for sentence in exported.conclusions.sentences)
    assert not (exported.bundle / "calibration.json").exists()
    inputs = replace(catalog_inputs(LENET, ExportOptions.of("fp16", weights="none")), calibration=None)
    half = make_fp16(inputs, scaled(), np.ones((1, 28, 28, 1), np.float32), lambda _: None)
    assert "synthetic images only" in half.sentences[0]


def test_the_calibration_set_may_not_be_the_evaluation_set(images: Path) -> None:
    plan = ExportOptions.of("fp16", weights="none", calibration=images / "labelled", evaluation=images / "labelled")
    with pytest.raises(UsageError) as caught:
        catalog_inputs(LENET, plan)
    assert caught.value.code == "overlap"
    inputs = catalog_inputs(LENET, plan.changed(calibration=images / "plain", samples=5))
    assert inputs.calibration is not None
    assert (len(inputs.calibration), inputs.selection) == (5, None)


def test_an_agreement_that_nothing_can_be_held_to(images: Path) -> None:
    promised = ExportOptions.of("fp16", weights="none", min_agreement=99.0)
    for plan, code in (
        (promised, "min-agreement-without-eval"),
        (
            ExportOptions.of("fp16", weights="none", calibration=images / "plain", min_agreement=99.0),
            "min-agreement-without-eval",
        ),
        (ExportOptions.of("fp16", weights="none", threshold=0.5), "threshold-without-eval"),
    ):
        with pytest.raises(UsageError) as caught:
            catalog_inputs(LENET, plan)
        assert caught.value.code == code


def scaled() -> OnnxModel:
    """A scale of 1e6 between two layers, which the next takes away again."""
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 28, 28, 1] image) => (float[n, 28, 28, 1] features)
        <float[1] up = {1000.0}, float[1] down = {0.001}>
        {
          one = Mul(image, up)
          two = Mul(one, up)
          three = Mul(two, down)
          features = Mul(three, down)
        }
    """)
    for node in proto.graph.node:
        node.name = node.output[0]
    return OnnxModel(proto.SerializeToString())


def test_a_layer_that_would_overflow_is_named(images: Path) -> None:
    fp32 = scaled()
    inputs: Inputs = catalog_inputs(LENET, ExportOptions.of("fp16", weights="none", calibration=images / "plain"))
    half = make_fp16(inputs, fp32, np.ones((1, 28, 28, 1), np.float32), lambda _: None)
    assert half.evidence.fp16 is not None
    assert set(half.evidence.fp16.kept) >= {"two", "three"}
    assert "two (values up to" in half.sentences[1]
    assert "for their values" in half.sentences[1]
