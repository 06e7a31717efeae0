"""From the float32 graph to the files of the requested precision, with their evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.result import Lowered
from xxdeploy.exporter.source import Source
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra, import_library
from xxdeploy.results import ModelFile, OnProgress, Runner
from xxdeploy.runtime.engines.select import LITERT
from xxdeploy.runtime.image.grid import METADATA, grid_from
from xxdeploy.runtime.image.preprocess import Preprocess

if TYPE_CHECKING:
    from xxdeploy.lowering.litert.metadata import About


def lower(
    source: Source,
    options: ExportOptions,
    fp32: OnnxModel,
    *,
    synthetic: NDArray[np.float32],
    report: OnProgress,
) -> Lowered:
    """Return the files of ``fp32`` in the precision of ``options``, as they ship.

    ``synthetic`` are preprocessed synthetic images (n, h, w, c), used when no calibration set is given. An engine gets
    LRN as one operator; with --top-k the files return their best classes only.

    Raises
    ------
    XXDeployError
        Those of ``make_int8`` and ``make_fp16``; ``ConversionError`` ``top-k-outputs``.
    """
    precision = options.precision
    float_file = ModelFile("fp32", fp32, "float32", (), fp32)
    only_litert = options.gpu.only_litert
    if precision.name == "fp32" or (precision.name == "fp16" and only_litert):
        lowered = Lowered((float_file,))
    elif precision.name == "fp16":
        from xxdeploy.exporter.fp16 import make_fp16

        lowered = make_fp16(source.inputs, fp32, synthetic, report, trained=source.trained)
    else:
        from xxdeploy.exporter.int8 import make_int8

        lowered = make_int8(source, options, fp32, report)
        if precision.keep_fp32:  # last: `load` picks it if no other fits, `tune` if it is faster
            lowered = replace(lowered, files=(*lowered.files, float_file))
    with extra("export"):
        from xxdeploy.lowering.embed_topk import embed_topk
        from xxdeploy.passes.lrn_as_sums import whole_lrn
        from xxdeploy.passes.merge_duplicates import with_shared_weights
    best, classes = options.output.top_k, source.inputs.classes

    def shipped(model: OnnxModel) -> OnnxModel:
        if options.gpu.engine is not None:
            return whole_lrn(model)
        model = with_shared_weights(model)
        return model if best is None or classes is None else embed_topk(model, best, classes)

    half = precision.name == "fp16"
    about = _about(source) if options.has_litert else None
    if only_litert:
        made = [litert_file(file, about, half=half) for file in lowered.files]
        told = f"{precision.name}, for LiteRT: {_LITERT_SAYS[precision.name]}"
        return replace(lowered, files=tuple(made), processors=(told,))
    files = [replace(file, model=shipped(file.model)) for file in lowered.files]
    if options.output.more == "litert":
        file = litert_file(float_file if half else lowered.files[0], about, half=half)
        files.append(replace(file, name=f"{file.name}-litert"))
    return replace(lowered, files=tuple(files))


_LITERT_SAYS = {
    "fp32": "the float32 graph, channels last, for a batch of one",
    "fp16": "weights in float16 where they fit, widened when the file is loaded; it computes in float32",
    "int8": "the integers of the graph in signed 8 bits, channels last, for a batch of one",
}


def check_litert(options: ExportOptions) -> None:
    """Raise ``MissingDependencyError`` before any work if a LiteRT file is asked for and its libraries are absent."""
    if options.has_litert:
        for module in ("flatbuffers", "ai_edge_litert.interpreter"):
            import_library(module, "litert")


def _about(source: Source) -> About:
    """Return what readers of a LiteRT file are told about the model."""
    with extra("litert"):
        from xxdeploy.lowering.litert.metadata import About
    inputs = source.inputs
    form = inputs.preprocess if isinstance(inputs.preprocess, Preprocess) else None
    labels = inputs.labels.names if inputs.labels is not None and inputs.task == "classification" else ()
    return About(source.name, form, labels)


def litert_file(file: ModelFile, about: About | None = None, *, half: bool = False) -> ModelFile:
    """Return the LiteRT file of a finished ONNX ``file``, from the graph whose answers it gives.

    ``about`` becomes its metadata; ``half`` stores the weights of a float graph in float16. Raises ``ConversionError``
    (``litert-operator``, ``litert-shape``), ``MissingDependencyError``.
    """
    with extra("litert"):
        from xxdeploy.lowering.litert.write import to_litert, with_half_weights
        from xxdeploy.quantize.scheme import scheme
    if file.precision == "int8":
        flat = to_litert(file.answers, grid_from(Graph(file.model).take_note(METADATA)), about=about)
        signed = replace(scheme(file.scheme), signed=True).name
        return ModelFile("int8", file.answers, signed, (LITERT,), file.answers, flat)
    answers = with_half_weights(file.model) if half else file.model
    name, numbers = ("fp16", "float16") if half else ("fp32", "float32")
    return ModelFile(name, answers, numbers, (LITERT,), answers, to_litert(answers, half=half, about=about))


def litert_runners(files: Iterable[ModelFile]) -> tuple[Runner, ...]:
    """Return the LiteRT files in their engine, to be compared and timed as the other stages are."""
    from xxdeploy.runtime.engines.litert import LitertSession

    return tuple(LitertSession(file.flat, name=f"litert-{file.precision}") for file in files if file.flat is not None)
