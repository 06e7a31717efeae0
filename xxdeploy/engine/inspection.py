"""The second depth of the proof: the layers of a built engine by data type, where there is a GPU to load it on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xxdeploy.engine.library import driver_problem, load_library
from xxdeploy.engine.options import Engine
from xxdeploy.errors import EngineError

_WORK = ("conv", "gemm", "matmul", "matrixmultiply", "fullyconnected", "cask")
_TYPES = {"int8": "int8", "half": "fp16", "fp16": "fp16", "float": "fp32", "fp32": "fp32"}


@dataclass(frozen=True, slots=True)
class Inspection:
    """Layers of an engine that convolve or multiply, counted by the type of what they read; ``layers`` counts all."""

    layers: int
    by_type: Mapping[str, int]

    def share(self, precision: str) -> float:
        """Return the share (0..1) of those layers in ``precision``."""
        return self.by_type.get(precision, 0) / max(sum(self.by_type.values()), 1)


def inspect_engine(engine: Engine) -> Inspection | None:
    """Load ``engine`` and read its layers; None where no driver is there to load it.

    Raises
    ------
    EngineError
        ``engine-load``: it was built for another card or version.
    """
    library = load_library(engine.options.target)
    if driver_problem(library) is not None:
        return None
    trt = library.module
    logger = library.logger()
    runtime = trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine.data)
    if loaded is None:
        raise EngineError(
            f"{library.target} {library.version} cannot load the engine that it built: {'; '.join(logger.errors[:1])}",
            hint="name this machine's card with --gpu",
            code="engine-load",
        )
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return read_inspection(text)


def read_inspection(text: str) -> Inspection:
    """Count the layers in the JSON of ``IEngineInspector`` (verbosity DETAILED).

    Raises
    ------
    EngineError
        ``engine-inspector``: it is no such JSON.
    """
    try:
        layers: list[Any] = json.loads(text)["Layers"]
        if not isinstance(layers, list):
            raise TypeError("Layers is no list")
        counted = Counter(kind for layer in layers if isinstance(layer, dict) and (kind := _kind(layer)))
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"what the engine inspector says cannot be read: {error}",
            hint="report this with the library's version",
            code="engine-inspector",
        ) from error
    return Inspection(len(layers), dict(counted))


def _kind(layer: Mapping[str, Any]) -> str | None:
    """Return the type that a working layer reads; None for another layer, ``other`` for a type of no name here."""
    names = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')} {layer.get('TacticName', '')}".lower()
    inputs = layer.get("Inputs") or []
    if not any(word in names for word in _WORK) or not inputs:
        return None
    words = str(inputs[0].get("Format/Datatype", "")).lower().replace("-", " ").split()
    return next((_TYPES[word] for word in words if word in _TYPES), "other")
