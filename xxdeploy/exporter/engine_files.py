"""Engines: from an ONNX model in the right layout, or from a bundle, on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xxdeploy.engine import Engine, EngineOptions, build_engine, load_library
from xxdeploy.engine.inspection import inspect_engine
from xxdeploy.engine.library import gpu_name
from xxdeploy.engine.proof import LEAST
from xxdeploy.engine.record import engine_writable, write_engine
from xxdeploy.engine.timing import load_timing, save_timing, timing_path
from xxdeploy.errors import EngineError, UsageError
from xxdeploy.files import cache_folder
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import OnProgress
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.signature import KeyLike, trust

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
        """What a person or the report wants to know."""
        return {**dict(self.engine.facts), "version": self.engine.version, "target": self.engine.options.target}


def make_engine(model: OnnxModel, options: EngineOptions, *, on_progress: OnProgress | None = None) -> Engine:
    """Check the layout of ``model``, prove its precision, build it, and where a GPU is there look at what was built.

    Timings are kept between builds, by version and card.

    Raises
    ------
    ConversionError
        ``tensorrt-layout``: before the library sees the graph.
    UsageError, MissingDependencyError, EngineError
        As :func:`xxdeploy.engine.build_engine`.
    """
    check_tensorrt_layout(model)
    library = load_library(options.target)
    folder = cache_folder("engines")
    kept = None if folder is None else timing_path(folder, version=library.version, gpu=gpu_name())
    known = None if kept is None else load_timing(kept)
    engine = build_engine(model, options, timing_cache=known, on_progress=on_progress)
    if kept is not None and engine.timing_cache:
        save_timing(kept, engine.timing_cache)
    # A plan for other cards than this machine's cannot be loaded here, and one without weights says nothing.
    inspection = None if options.gpus or options.strip else inspect_engine(engine)
    if inspection is None:
        return engine
    if inspection.share(options.precision) < LEAST:
        raise EngineError(
            f"of the layers that were built, only {100 * inspection.share(options.precision):.0f} % read "
            f"{options.precision}: {dict(inspection.by_type)}",
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

    ``options.precision`` is that of the variant, whatever it says. Without ``variant``: the best that TensorRT runs,
    INT8 before FP16 before FP32. ``key`` and ``min_version`` as in ``runtime.load``.

    Raises
    ------
    BundleError
        As ``runtime.load``: the ONNX is read only once its hash is right.
    UsageError
        ``unknown-variant``, ``no-engine-variant``, and those of ``write_engine``.
    ConversionError, MissingDependencyError, EngineError
        As :func:`make_engine`.
    """
    engine_writable(out, force=force)
    root, manifest = open_bundle(bundle, trust(key, min_version))
    entries = {entry.path: entry for entry in manifest.files}

    def read(each: Variant) -> OnnxModel:
        return remove_topk(OnnxModel(read_entry(root, entries[each.model])))

    if variant is None:
        picked, model = _best(manifest, read)
    else:
        found = next((each for each in manifest.variants if each.name == variant), None)
        if found is None:
            raise UsageError(
                f"{manifest.name} has no variant {variant!r}",
                hint=f"it has {', '.join(each.name for each in manifest.variants)}",
                code="unknown-variant",
            )
        picked, model = found, read(found)
    engine = make_engine(model, replace(options, precision=picked.precision), on_progress=on_progress)
    return BuiltEngine(write_engine(engine, out, force=force), picked.name, engine)


def _best(manifest: Manifest, read: Any) -> tuple[Variant, OnnxModel]:
    for each in sorted(manifest.variants, key=lambda each: _BEST_FIRST.index(each.precision)):
        model = read(each)
        if not lint_tensorrt(model):
            return each, model
    raise UsageError(
        f"{manifest.name} has no variant that TensorRT runs in its precision",
        hint="export with --target tensorrt or tensorrt-rtx; --variant NAME says what is wrong with one",
        code="no-engine-variant",
    )
