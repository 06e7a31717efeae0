"""The LiteRT file of a bundle (``--with litert``): the same integers, and the proof that it gives the same answers."""

from __future__ import annotations

from collections.abc import Iterable

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.optional import extra
from xxdeploy.results import ModelFile, Runner
from xxdeploy.runtime.image.grid import METADATA, grid_from


def litert_file(file: ModelFile) -> ModelFile:
    """Return the LiteRT file of a finished ONNX ``file``, from the graph whose answers it gives.

    Raises ``ConversionError`` (``litert-operator``, ``litert-shape``), ``MissingDependencyError``.
    """
    with extra("litert"):
        from xxdeploy.lowering.litert.write import to_litert
    grid = grid_from(Graph(file.model).take_note(METADATA))
    flat = to_litert(file.answers, grid)
    return ModelFile(f"{file.precision}-litert", file.answers, file.scheme, ("litert",), file.answers, flat)


def litert_runners(files: Iterable[ModelFile]) -> tuple[Runner, ...]:
    """Return the LiteRT files in their engine, to be compared and timed as the other stages are."""
    from xxdeploy.runtime.engines.litert import LitertSession

    return tuple(LitertSession(file.flat, name=f"litert-{file.precision}") for file in files if file.flat is not None)
