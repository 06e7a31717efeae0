"""TensorRT engines: built from a bundle (``xxdeploy build``) or in an export, proved, and run where there is a GPU.

Experimental: engines were built and their networks proved without a GPU, but none has ever been run on a card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.engine import Engine, EngineOptions, build_engine, check_engine_options, load_library
from xxdeploy.engine.library import gpu_name
from xxdeploy.engine.proof import LEAST, inspect_engine
from xxdeploy.engine.record import engine_files, engine_writable, load_timing, save_timing, timing_path, write_engine
from xxdeploy.errors import EngineError, UsageError
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.precision import litert_runners
from xxdeploy.exporter.stages import Remembered
from xxdeploy.files import cache_folder
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import EngineRecord, ModelFile, OnProgress, Parity, Runner
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.signature import KeyLike, trust
from xxdeploy.runtime.engines.engine_file import FOLDER
from xxdeploy.runtime.engines.select import LITERT
from xxdeploy.runtime.engines.trt import TrtSession
from xxdeploy.runtime.predictor import named_variant
from xxdeploy.verify import Tolerance, check, compare

with extra("export"):
    from xxdeploy.lowering.embed_topk import remove_topk
    from xxdeploy.quantize.tensorrt.linter import check_tensorrt_layout, lint_tensorrt

_BEST_FIRST = ("int8", "fp16", "fp32")


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine in its ``folder``, and the ``variant`` of the bundle that it was built from."""

    folder: Path
    variant: str
    engine: Engine

    @property
    def facts(self) -> dict[str, Any]:
        """Return the engine's facts, its version and its target."""
        return {**dict(self.engine.facts), "version": self.engine.version, "target": self.engine.options.target}


def make_engine(model: OnnxModel, options: EngineOptions, *, on_progress: OnProgress | None = None) -> Engine:
    """Check the layout of ``model``, prove its precision, build it, and on its own GPU inspect the built layers.

    Timings are kept between builds, by version and card.

    Raises
    ------
    ConversionError
        ``tensorrt-layout``: before the library sees the graph.
    EngineError
        ``engine-precision``; else as :func:`xxdeploy.engine.build_engine`.
    """
    check_tensorrt_layout(model)
    library = load_library(options.target)
    folder = cache_folder("engines")
    kept = None if folder is None else timing_path(folder, version=library.version, gpu=gpu_name())
    known = None if kept is None else load_timing(kept)
    engine = build_engine(model, options, timing_cache=known, on_progress=on_progress)
    if kept is not None and engine.timing_cache:
        save_timing(kept, engine.timing_cache)
    # Only a plan for this machine's card can be loaded here, and only a plan with its weights can be inspected.
    inspection = None if options.gpus or options.strip else inspect_engine(engine)
    if inspection is None:
        return engine
    share = inspection.share(options.precision)
    if share < LEAST:
        raise EngineError(
            f"only {100 * share:.0f} % of the built layers read {options.precision}: {dict(inspection.by_type)}",
            hint="try another version of the library, and report this",
            code="engine-precision",
        )
    return replace(engine, facts={**engine.facts, "depth": "engine", "built_layers": dict(inspection.by_type)})


def build_from_bundle(
    bundle: Path,
    options: EngineOptions,
    out: Path,
    *,
    variant: str | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
    key: KeyLike | None = None,
    min_version: int = 0,
) -> BuiltEngine:
    """Build an engine from the ONNX in ``bundle`` and write it to the folder ``out``.

    The precision is that of the variant: by default the best that TensorRT runs, INT8 before FP16 before FP32.
    ``key`` and ``min_version`` as in ``runtime.load``. The ONNX is read only once its hash is right.

    Raises
    ------
    UsageError
        ``unknown-variant``, ``no-engine-variant``; else as ``runtime.load``, :func:`make_engine` and ``write_engine``.
    """
    engine_writable(out, force=force)
    root, manifest = open_bundle(bundle, trust(key, min_version))
    entries = {entry.path: entry for entry in manifest.files}

    def read(taken: Variant) -> OnnxModel:
        return remove_topk(OnnxModel(read_entry(root, entries[taken.model])))

    picked = _best(manifest, read) if variant is None else named_variant(manifest, variant)
    if LITERT in picked.requires:
        raise UsageError(
            f"{picked.model} is a LiteRT file, from which TensorRT cannot build",
            hint="leave --variant out, or export with --target tensorrt or tensorrt-rtx",
            code="no-engine-variant",
        )
    model = read(picked)
    engine = make_engine(model, replace(options, precision=picked.precision), on_progress=on_progress)
    return BuiltEngine(write_engine(engine, out, force=force), picked.name, engine)


def _best(manifest: Manifest, read: Callable[[Variant], OnnxModel]) -> Variant:
    models = [variant for variant in manifest.variants if LITERT not in variant.requires]
    for variant in sorted(models, key=lambda variant: _BEST_FIRST.index(variant.precision)):
        if not lint_tensorrt(read(variant)):
            return variant
    raise UsageError(
        f"{manifest.name} has no variant that TensorRT runs in its precision",
        hint="export with --target tensorrt or tensorrt-rtx; --variant NAME says what is wrong with one",
        code="no-engine-variant",
    )


def check_engine(options: ExportOptions) -> None:
    """Refuse options that the engine's library would refuse after the work. Errors as ``check_engine_options``."""
    if (engine := options.gpu.engine) is not None:
        check_engine_options(replace(engine, precision=options.precision.name))


def export_engine(
    options: ExportOptions, files: Sequence[ModelFile], report: OnProgress
) -> tuple[Engine | None, tuple[Runner, ...]]:
    """Build the engine that ``options`` ask for, and load it if it is for the GPU of this machine.

    The runners are the engine, unless it is for other GPUs, or the LiteRT ``files``. Errors as ``make_engine``,
    ``TrtSession`` and ``LitertSession``.
    """
    if options.gpu.engine is None:
        return None, litert_runners(files)
    model = files[0].model
    engine = make_engine(model, replace(options.gpu.engine, precision=options.precision.name), on_progress=report)
    if engine.facts["depth"] != "engine":
        return engine, ()
    return engine, (TrtSession(engine.plan, target=options.gpu.engine.target, name=options.gpu.engine.target),)


def prove_engine(
    reference: Remembered, runners: Sequence[Runner], batches: Sequence[NDArray[np.float32]], tolerance: Tolerance
) -> tuple[Parity, ...]:
    """Compare the engine with Keras, and judge it, where it runs here. Errors as ``prove_stage``."""
    parities = tuple(compare(reference, runner, batches) for runner in runners)
    for parity in parities:
        check(parity, tolerance)
    return parities


def bundled_engine(engine: Engine | None) -> Mapping[str, bytes]:
    """Return the engine's files by their path in the bundle."""
    return {} if engine is None else {f"{FOLDER}/{name}": content for name, content in engine_files(engine).items()}


def engine_sentence(engine: Engine) -> str:
    """Return a sentence about the engine, its GPUs, and the proof of its precision."""
    options, record = engine.options, EngineRecord.from_facts(engine.facts)
    said = ", ".join(f"{100 * share:.1f} % {name}" for name, share in record.shares.items())
    cards = ", ".join(options.gpus) or "this machine's GPU"
    depth = "of the parsed network, and the built layers were looked at"
    if record.depth != "engine":
        depth = (
            "of the parsed network; the built layers can be looked at on a GPU only, and the times above are those of "
            "its ONNX on this processor"
        )
    return (
        f"engine: {options.target} {engine.version} for {cards}, batches of {options.batch.min} to "
        f"{options.batch.max}, {engine.size / 1e6:.1f} MB; {said} {depth}"
    )
