"""Results of an export, and manifests, for the files that describe a bundle to other tools."""

from __future__ import annotations

from dataclasses import replace

import tiny_bundle

from xxdeploy.results import AccuracyRecord, CalibrationRecord, ComparisonRecord, Evidence, RunnerAccuracy
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.bundle.tensors import NHWC, InputTensor, OutputTensor
from xxdeploy.runtime.image.preprocess import Preprocess

EVIDENCE = Evidence(
    notes=("a note\nof two lines",),
    calibration=CalibrationRecord("minmax", 50, "c" * 64),
    accuracy=AccuracyRecord(400, "e" * 64, (RunnerAccuracy("keras", 1.0, 0.5), RunnerAccuracy("onnx-int8", 0.9, 0.75))),
    comparison=(ComparisonRecord("keras", "onnx-int8", 400, 1.0, agreement=0.9, agreement_interval=(0.87, 0.93)),),
)


def with_input(form: Preprocess, dtype: str = "float32") -> Manifest:
    """A manifest whose model file takes ``dtype`` and that is preprocessed as ``form`` says."""
    manifest = tiny_bundle.parts_and_manifest()[1]
    inputs = (InputTensor("image", dtype, (None, form.height, form.width, form.channels), NHWC),)
    outputs = (OutputTensor("probabilities", "float32", (None, 10)),)
    variants = (replace(manifest.variants[0], inputs=inputs, outputs=outputs),)
    return replace(manifest, schema=5, preprocess=form, variants=variants)
