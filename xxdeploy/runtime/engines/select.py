"""Engines by name, and their settings. No engine is imported before it is chosen."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import BundleError, EngineError, UsageError
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.tensors import check_held
from xxdeploy.runtime.engines.session import EngineSession, Session

CUDA = "onnxruntime-cuda"
PROVIDERS: Mapping[str, str] = {
    CUDA: "cuda",
    "onnxruntime-tensorrt": "tensorrt",
    "onnxruntime-tensorrt-rtx": "tensorrt-rtx",
}
"""Engines that are ONNX Runtime on a GPU (experimental: never run on a card), and their names in ``providers``."""
LITERT = "litert"
"""The engine of LiteRT files, and the feature that their variants require: so no other engine picks one."""
PLANS: Mapping[str, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Engines that run a TensorRT plan in the bundle or next to it (experimental: never run on a card), and modules."""
MODULES: Mapping[str, str] = {
    "onnxruntime": "onnxruntime",
    **dict.fromkeys(PROVIDERS, "onnxruntime"),
    "openvino": "openvino",
    LITERT: "ai_edge_litert",
    **PLANS,
}
"""All engines, and the module of each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """An engine and its settings. ``UsageError`` ``unknown-engine``; the engine checks the other values.

    ``engine`` is a key of :data:`MODULES`; ``threads`` are those inside one inference, None is the engine's own choice.
    ``spinning`` (onnxruntime): whether threads that wait inside an inference stay awake. ``hint`` (OpenVINO): ``f32``,
    or ``bf16`` for float layers in bfloat16.
    """

    engine: str = "onnxruntime"
    threads: int | None = None
    spinning: bool = True
    hint: str = "f32"

    def __post_init__(self) -> None:
        if self.engine not in MODULES:
            raise UsageError(
                f"there is no engine {self.engine!r}",
                hint=f"the engines are {', '.join(MODULES)}",
                code="unknown-engine",
            )

    def __str__(self) -> str:
        parts = [self.engine]
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'' if self.threads == 1 else 's'}")
        if self.engine == "onnxruntime" and not self.spinning:
            parts.append("no spinning")
        if self.engine == "openvino":
            parts.append(self.hint)
        return ", ".join(parts)


def open_session(
    model: bytes, manifest: Manifest, variant: Variant, settings: Settings, *, cache: Path | None = None
) -> Session:
    """Load a variant's model, whose bytes were hashed, into an engine that reads ONNX.

    ``cache`` is a folder for models that OpenVINO compiled; None keeps nothing. Errors as the engine's session, and
    ``BundleError`` ``bundle-signature``: the inputs or outputs are not those of the manifest.
    """
    name = f"{settings.engine.replace('onnxruntime', 'onnx')}-{variant.precision}"
    ort_format = variant.model.endswith(".ort")
    if ort_format and MODULES[settings.engine] != "onnxruntime":
        raise EngineError(
            f"{variant.model} is in onnxruntime's own format, which {settings.engine} cannot read",
            hint="export without --ort-format",
            code="ort-format-only",
        )
    if variant.model.endswith(".tflite") != (settings.engine == LITERT):
        raise EngineError(
            f"{variant.model} is not a file for {settings.engine}",
            hint="engine='litert' reads LiteRT files (export --with litert) and no others",
            code="litert-file",
        )
    session: EngineSession
    if settings.engine == "openvino":
        from xxdeploy.runtime.engines.openvino.session import OpenVinoSession

        session = OpenVinoSession(model, name=name, threads=settings.threads, hint=settings.hint, cache=cache)
    elif settings.engine == LITERT:
        from xxdeploy.runtime.engines.litert import LitertSession

        session = LitertSession(model, name=name, threads=settings.threads)
    else:
        from xxdeploy.runtime.engines.ort import OrtSession

        session = OrtSession(
            model,
            name=name,
            threads=settings.threads,
            spinning=settings.spinning,
            provider=PROVIDERS.get(settings.engine),
            ort_format=ort_format,
        )
    if (session.input_names, session.output_names) != (manifest.input_names, manifest.output_names):
        raise BundleError(
            f"{variant.model} maps {', '.join(session.input_names)} to {', '.join(session.output_names)}, "
            f"the manifest says {', '.join(manifest.input_names)} to {', '.join(manifest.output_names)}",
            hint="export the bundle again",
            code="bundle-signature",
        )
    if variant.inputs:  # below schema 5 the manifest does not list them
        check_held(variant.model, (variant.inputs, variant.outputs), session.tensors)
    return session


def engine_version(engine: str) -> str | None:
    """Import an engine and return its version; None where it is absent or broken."""
    try:
        return str(getattr(importlib.import_module(MODULES[engine]), "__version__", "unknown"))
    except ImportError:
        return None


def installed_engines() -> tuple[str, ...]:
    """Return the installed engines for processors. They are not imported, so a broken one is among them."""
    return tuple(
        engine
        for engine, module in MODULES.items()
        if engine not in PLANS and engine not in PROVIDERS and importlib.util.find_spec(module) is not None
    )
