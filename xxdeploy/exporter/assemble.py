"""What goes into the bundle: files, and a manifest whose evidence holds reproducible facts only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy import __version__
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.precision import ModelFile
from xxdeploy.lowering.ort_format import ort_from_onnx
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import (
    Accuracy,
    AccuracyRecord,
    CalibrationRecord,
    Evidence,
    ModelOutput,
    Parity,
    Ranges,
    RunnerAccuracy,
    StepRecord,
)
from xxdeploy.runtime.bundle.contents import npy_from_array, text_from_labels
from xxdeploy.runtime.bundle.manifest import (
    SCHEMA_VERSION,
    SCHEMA_WITH_MORE_OUTPUTS,
    GoldenSpec,
    Manifest,
    MoreOutput,
    Variant,
)
from xxdeploy.runtime.cpu import cpu_features
from xxdeploy.runtime.engines.ort import OrtSession

GOLDEN_IMAGES = 4
GOLDEN_TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.1}
"""Relative to the largest golden output: a device may round otherwise, and INT8 in larger steps. A processor without
float16 computes an FP16 graph in float32, a GPU rounds between layers."""
_ROUNDING_FACTOR = 2.0
"""Times the difference between two ways to round that both are right: a third way may be right, too."""
_FLOATS = {"float32": "fp32", "float16": "fp16"}
_TOOLS = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class Part:
    """A model file for the bundle: how it is called and written, and what it gives for the golden inputs.

    ``expected`` holds an array (n, ...) for each output, ``rounding`` the largest difference that the places of
    rounding make to each. ``suffix`` tells its files from those of the first variant: ``-avx2`` of ``int8-avx2``;
    ``ort`` is the model in ONNX Runtime's own format, where that takes the place of ONNX.
    """

    variant: str
    model: OnnxModel
    scheme: str
    requires: tuple[str, ...]
    expected: tuple[NDArray[np.float32], ...]
    rounding: tuple[float, ...]
    suffix: str = ""
    ort: bytes | None = None

    @property
    def precision(self) -> str:
        """Return ``fp32``, ``fp16`` or ``int8``."""
        return _FLOATS.get(self.scheme, "int8")


def part_from(file: ModelFile, golden: NDArray[np.float32], options: ExportOptions) -> Part:
    """Run the normalized golden pictures, (n, h, w, c), for the bundle of ``options``.

    In ONNX Runtime's own format are the files for processors such as this one: for others it cannot be optimized here.

    Engines may round an INT8 graph at other places. How far that can lead is seen where ONNX Runtime does: with its
    graph optimizations off it computes in float between Q and DQ, with them on in integers.
    """
    expected = _answers(file.answers, golden)
    other = _answers(file.answers, golden, optimize=False) if file.scheme not in _FLOATS else expected
    rounding = tuple(float(np.abs(one - two).max()) for one, two in zip(expected, other, strict=True))
    precision = options.precision.name
    suffix = file.name[len(precision) :] if file.name.startswith(precision) else f"-{file.name}"
    ort = ort_from_onnx(file.model) if options.output.ort_format and cpu_features().issuperset(file.requires) else None
    return Part(file.name, file.model, file.scheme, file.requires, expected, rounding, suffix, ort)


def _answers(model: OnnxModel, batch: NDArray[np.float32], *, optimize: bool = True) -> tuple[NDArray[np.float32], ...]:
    """Return what each output gives for a batch, in their order."""
    return tuple(OrtSession(model.to_bytes(), exact=True, optimize=optimize).run_all(batch).values())


@dataclass(frozen=True, slots=True)
class Built:
    """Models that are ready to be packed, and where they came from. ``evidence`` is that of the steps so far."""

    name: str
    source: Mapping[str, Any]
    outputs: tuple[ModelOutput, ...]
    options: ExportOptions
    inputs: Inputs
    keras_name: str
    parts: tuple[Part, ...]
    fp32_digest: str
    ranges: Ranges | None
    records: Mapping[str, bytes]
    evidence: Evidence


def bundle_parts(
    built: Built,
    golden: NDArray[np.uint8],
    parities: Sequence[Parity],
    accuracies: Sequence[Accuracy],
    passes: Sequence[StepRecord],
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest (without its list of files) and the files by their path in the bundle."""
    options, inputs = built.options, built.inputs
    files = {"golden/inputs.npy": npy_from_array(golden), **built.records}
    variants = []
    golden_files = [_golden(built.parts, index) for index in range(len(built.outputs))]
    for number, part in enumerate(built.parts):
        model = f"model{part.suffix}.{'onnx' if part.ort is None else 'ort'}"
        files |= {
            model: part.model.to_bytes() if part.ort is None else part.ort,
            **{paths[number]: data[number] for paths, data in golden_files},
        }
        path = golden_files[0][0][number]
        variants.append(Variant(part.variant, model, part.precision, part.scheme, path, part.requires))
    if inputs.labels is not None:
        files["labels.txt"] = text_from_labels(inputs.labels.names)
    if built.ranges is not None:
        files["calibration.json"] = built.ranges.to_json().encode()
    tolerances = [_tolerance(built, index) for index in range(len(built.outputs))]
    more = tuple(
        MoreOutput(output.name, output.task, output.classes or 0, paths, tolerance)
        for output, (paths, _), tolerance in zip(built.outputs, golden_files, tolerances, strict=True)
    )[1:]
    manifest = Manifest(
        schema=SCHEMA_WITH_MORE_OUTPUTS if more else SCHEMA_VERSION,
        name=bundle_name(built.name, options),
        task=inputs.task,
        input_name="image",
        output_name=built.outputs[0].name,
        preprocess=inputs.preprocess,
        classes=inputs.classes or 0,
        labels="labels.txt" if inputs.labels is not None else None,
        variants=tuple(variants),
        golden=GoldenSpec("golden/inputs.npy", tolerances[0]),
        files=(),
        tools=tool_versions(),
        source={**built.source, "keras_name": built.keras_name, "fp32_sha256": built.fp32_digest},
        evidence=_evidence(built, parities, accuracies, passes).to_json(),
        more_outputs=more,
    )
    return manifest, files


def _tolerance(built: Built, output: int) -> float:
    """Return the largest absolute error of an output that the self-test allows."""
    largest = max(float(np.abs(part.expected[output]).max()) for part in built.parts) or 1.0
    rounding = max(part.rounding[output] for part in built.parts)
    return max(GOLDEN_TOLERANCE[built.options.precision.name] * largest, _ROUNDING_FACTOR * rounding)


def _golden(parts: Sequence[Part], output: int) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """Return the golden files of one output: path and bytes for each part. Equal ones are one file."""
    data = tuple(npy_from_array(part.expected[output]) for part in parts)
    stem = f"golden/outputs.{output + 1}" if output else "golden/outputs"
    paths: dict[bytes, str] = {}
    for part, each in sorted(zip(parts, data, strict=True), key=lambda pair: pair[0].suffix):
        paths.setdefault(each, f"{stem}{part.suffix}.npy")  # what several share is called after the first
    return tuple(paths[each] for each in data), data


def bundle_name(model: str, options: ExportOptions) -> str:
    """Return what the bundle of a model is called, and by default its folder."""
    target = options.gpu.target
    return f"{model}-{options.precision.name}" + ("" if target == "cpu" else f"-{target}")


def tool_versions() -> dict[str, str]:
    """Return the versions of everything that had a hand in the bundle."""
    versions = {"xxdeploy": __version__}
    for name in _TOOLS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _evidence(
    built: Built, parities: Sequence[Parity], accuracies: Sequence[Accuracy], passes: Sequence[StepRecord]
) -> Evidence:
    ranges, evaluation = built.ranges, built.inputs.evaluation
    return replace(
        built.evidence,
        parity=tuple(parities),
        passes=tuple(passes),
        notes=tuple(built.inputs.notes),
        calibration=None if ranges is None else CalibrationRecord(ranges.method, ranges.images, ranges.data_digest),
        accuracy=None
        if not accuracies or evaluation is None
        else AccuracyRecord(
            accuracies[0].images,
            built.inputs.data_digest(evaluation),
            tuple(
                RunnerAccuracy(each.runner, each.agreement(accuracies[0]), each.top1, each.top5) for each in accuracies
            ),
        ),
    )
