"""The contents of a bundle: its files, and a manifest whose evidence holds reproducible facts only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy import __version__
from xxdeploy.cpu import cpu_features
from xxdeploy.engine import Engine
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.result import Lowered
from xxdeploy.exporter.source import Source
from xxdeploy.onnxmodel.model import OnnxModel, tensors_of
from xxdeploy.onnxmodel.run import ort_from_onnx
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.report.card import describe
from xxdeploy.results import (
    Accuracy,
    AccuracyRecord,
    CalibrationRecord,
    EngineRecord,
    Evidence,
    ModelFile,
    Parity,
    RunnerAccuracy,
    StepRecord,
    noise_to_json,
)
from xxdeploy.runtime.bundle.contents import npy_from_array, text_from_labels
from xxdeploy.runtime.bundle.manifest import SCHEMA, GoldenSpec, Manifest, MoreInput, MoreOutput, Variant
from xxdeploy.runtime.bundle.tensors import NHWC, InputTensor, OutputTensor
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import InputForm, SeveralInputs, parts_of
from xxdeploy.verify import Comparison

GOLDEN_IMAGES = 4
GOLDEN_TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.1}
"""Relative to the largest golden output: a device may round otherwise, and INT8 in larger steps. A processor without
float16 computes an FP16 graph in float32, a GPU rounds between layers."""
_ROUNDING_FACTOR = 2.0
"""The self-test allows this multiple of the difference between two correct ways to round: engines may use a third."""
_TOOLS = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


_Golden = Sequence[tuple[NDArray[np.float32], float]]
"""For each output of a file: its values for the golden images, and the largest change if an engine rounds elsewhere."""


def _golden_answers(file: ModelFile, images: NDArray[np.float32]) -> _Golden:
    """Run the preprocessed golden ``images``, (n, h, w, c).

    Engines may round an INT8 graph at other places. ONNX Runtime shows by how much that changes the outputs: with its
    graph optimizations off it computes in float between Q and DQ, with them on in integers.
    """

    def answers(optimize: bool) -> list[NDArray[np.float32]]:
        return list(open_session(file.answers, exact=True, optimize=optimize).run_all(images).values())

    expected = answers(True)
    other = answers(False) if file.precision == "int8" else expected
    return [(here, float(np.abs(here - there).max())) for here, there in zip(expected, other, strict=True)]


def assemble(
    source: Source,
    options: ExportOptions,
    lowered: Lowered,
    evidence: Evidence,
    *,
    golden: NDArray[Any],
    fp32: OnnxModel,
    more_files: Mapping[str, bytes],
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest (without its list of files) and the files by their path in the bundle.

    ``golden`` are the decoded samples of the self-test; ``more_files`` the files of an engine.
    """
    inputs, files = source.inputs, dict(more_files)
    form = inputs.preprocess
    first, *others = [part for _, part in parts_of(form)]
    arrays = form.apart(golden) if isinstance(form, SeveralInputs) else [golden]
    paths = ["golden/inputs.npy", *(f"golden/inputs.{number}.npy" for number in range(2, len(arrays) + 1))]
    for path, part, array in zip(paths, (first, *others), arrays, strict=True):
        files[path] = npy_from_array(array.astype(np.uint8) if isinstance(part, Preprocess) else array)
    if lowered.noise:
        files["sensitivity.json"] = noise_to_json(lowered.noise).encode()
    if inputs.labels is not None:
        files["labels.txt"] = text_from_labels(inputs.labels.names, characters=inputs.task == "sequence")
    if lowered.ranges is not None:
        files["calibration.json"] = lowered.ranges.to_json().encode()
    precision = options.precision.name
    suffixes = [_suffix(file, precision) for file in lowered.files]
    answers = [_golden_answers(file, inputs.preprocess.normalize(golden)) for file in lowered.files]
    specs = [_golden_files(suffixes, answers, output, precision) for output in range(len(source.outputs))]
    variants = []
    for number, (file, suffix) in enumerate(zip(lowered.files, suffixes, strict=True)):
        path, model = _model_file(file, suffix, ort_format=options.output.ort_format)
        files |= {path: model, **{spec.paths[number]: spec.contents[number] for spec in specs}}
        tensors = _tensors(file, form)
        variants.append(
            Variant(file.name, path, file.precision, file.scheme, specs[0].paths[number], file.requires, *tensors)
        )
    more = tuple(
        MoreOutput(output.name, output.task, output.classes or 0, spec.paths, spec.tolerance)
        for output, spec in zip(source.outputs, specs, strict=True)
    )[1:]
    manifest = Manifest(
        schema=SCHEMA,
        name=bundle_name(source.name, precision, weights=options.network.weights, target=options.gpu.target),
        task=inputs.task,
        input_name=source.input_names[0],
        output_name=source.outputs[0].name,
        preprocess=first,
        classes=inputs.classes or 0,
        labels="labels.txt" if inputs.labels is not None else None,
        variants=tuple(variants),
        golden=GoldenSpec(paths[0], specs[0].tolerance),
        files=(),
        tools=tool_versions(),
        source={**source.facts, "keras_name": source.model.name, "fp32_sha256": fp32.digest},
        evidence=evidence.to_json(),
        more_outputs=more,
        output_range=inputs.output.output_range,
        more_inputs=tuple(map(MoreInput, source.input_names[1:], others, paths[1:])),
        blank=inputs.output.blank,
    )
    return manifest, files | describe(manifest, evidence, files, card=options.output.card, bom=options.output.bom)


def _suffix(file: ModelFile, precision: str) -> str:
    """Return the ending that tells a file's paths from those of the first variant: ``-avx2`` for ``int8-avx2``."""
    return file.name[len(precision) :] if file.name.startswith(precision) else f"-{file.name}"


def _model_file(file: ModelFile, suffix: str, *, ort_format: bool) -> tuple[str, bytes]:
    """Return path and bytes of a model file.

    ``ort_format`` writes ONNX Runtime's own format for processors such as this one. ONNX Runtime optimizes the graph
    when it writes it, which is possible only for the processor that it runs on.
    """
    if file.flat is not None:
        return f"model{suffix}.tflite", file.flat
    if ort_format and cpu_features().issuperset(file.requires):
        return f"model{suffix}.ort", ort_from_onnx(file.model)
    return f"model{suffix}.onnx", file.model.to_bytes()


def _tensors(file: ModelFile, form: InputForm) -> tuple[tuple[InputTensor, ...], tuple[OutputTensor, ...]]:
    """Return the inputs and outputs of a model file as the manifest lists them."""
    if file.flat is None:
        inputs, outputs = tensors_of(file.model)
    else:
        from xxdeploy.lowering.litert.flat import tensors_in

        inputs, outputs = tensors_in(file.flat)
    parts = [part for _, part in parts_of(form)]
    return (
        tuple(
            InputTensor(*tensor, NHWC if isinstance(part, Preprocess) else None)
            for tensor, part in zip(inputs, parts, strict=True)
        ),
        tuple(OutputTensor(*tensor) for tensor in outputs),
    )


@dataclass(frozen=True, slots=True)
class _GoldenFiles:
    """The golden files of one output, one for each variant, and the largest error that the self-test allows."""

    paths: tuple[str, ...]
    contents: tuple[bytes, ...]
    tolerance: float


def _golden_files(suffixes: Sequence[str], answers: Sequence[_Golden], output: int, precision: str) -> _GoldenFiles:
    """Return the golden files of an output, by its number; equal ones have one path."""
    expected, moved = zip(*(answer[output] for answer in answers), strict=True)
    contents = tuple(npy_from_array(array) for array in expected)
    stem = f"golden/outputs.{output + 1}" if output else "golden/outputs"
    paths: dict[bytes, str] = {}
    for suffix, content in sorted(zip(suffixes, contents, strict=True), key=lambda pair: pair[0]):
        paths.setdefault(content, f"{stem}{suffix}.npy")
    largest = max(float(np.abs(array).max()) for array in expected) or 1.0
    tolerance = max(GOLDEN_TOLERANCE[precision] * largest, _ROUNDING_FACTOR * max(moved))
    return _GoldenFiles(tuple(paths[content] for content in contents), contents, tolerance)


def bundle_name(model: str, precision: str, *, weights: str = "imagenet", target: str = "cpu") -> str:
    """Return the name of a model's bundle, which is also its default folder; that of sample weights says so."""
    sample = "-sample" if weights == "sample" else ""
    return f"{model}{sample}-{precision}" + ("" if target == "cpu" else f"-{target}")


def tool_versions() -> dict[str, str]:
    """Return the versions of the libraries that make a bundle."""
    versions = {"xxdeploy": __version__}
    for name in _TOOLS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def collect_evidence(
    inputs: Inputs,
    lowered: Lowered,
    *,
    parities: Sequence[Parity],
    passes: Sequence[StepRecord],
    accuracies: Sequence[Accuracy],
    comparisons: Sequence[Comparison],
    engine: Engine | None,
) -> Evidence:
    """Return the manifest's evidence: the part of ``lowered``, and the results of all other steps."""
    ranges, evaluation, accuracy = lowered.ranges, inputs.evaluation, None
    if accuracies and evaluation is not None:
        runners = (
            RunnerAccuracy(measured.runner, measured.agreement(accuracies[0]), measured.top1, measured.top5)
            for measured in accuracies
        )
        accuracy = AccuracyRecord(accuracies[0].images, inputs.data_digest(evaluation), tuple(runners))
    return replace(
        lowered.evidence,
        parity=tuple(parities),
        passes=tuple(passes),
        notes=inputs.notes,
        calibration=None if ranges is None else CalibrationRecord(ranges.method, ranges.images, ranges.data_digest),
        comparison=tuple(comparison.record for comparison in comparisons),
        accuracy=accuracy,
        engine=None if engine is None else EngineRecord.from_facts(engine.facts),
    )
