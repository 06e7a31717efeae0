"""The matrix of networks and precisions: its cells, what each is known by, and what it may use.

A cell is one bundle to make. Its options are those of ``xxdeploy export`` under their names on the command line
without the dashes, so a cell is a command that can be repeated by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.datasets.images import file_digest
from xxdeploy.errors import UsageError
from xxdeploy.exporter.assemble import tool_versions
from xxdeploy.exporter.option_fields import Value, flag_of, words_of
from xxdeploy.exporter.options import OPTIONS
from xxdeploy.models.catalog import CATALOG, find

SET_BY_BATCH = frozenset({"int8", "fp16", "force"})
"""Options that a batch sets for its jobs."""
MODEL_FILES = (".keras", ".h5", ".hdf5")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BASE, _BASE_INT8 = 1_500_000_000, 1_700_000_000
_TIMES_WEIGHTS, _TIMES_WEIGHTS_INT8 = 6, 6.5
_LAYER_INT8 = 4_000_000
"""INT8 holds a tensor of each layer, in float and in integers, when it measures what each loses."""
_UNKNOWN_DEPTH = 400
_ENGINE = 1_000_000_000
"""What TensorRT's builder takes besides."""
_UNKNOWN = 4_000_000_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One network in one precision.

    Attributes
    ----------
    name : str
        Of its bundle's folder, its record and its card; one cell has it in a matrix.
    model : str
        A name of the catalog, or a model file.
    precision : str
        ``fp32``, ``fp16`` or ``int8``.
    options : Mapping[str, Value]
        What else ``xxdeploy export`` is given: ``{"weights": "none", "no-top": True}``.
    """

    name: str
    model: str
    precision: str
    options: Mapping[str, Value]

    def __post_init__(self) -> None:
        flag_of(self.precision)
        if not _NAME.fullmatch(self.name) or self.name.lower() in ("results", "summary.json", "summary.html"):
            raise UsageError(
                f"a bundle cannot be called {self.name!r}",
                hint="letters, digits, dots, dashes and underscores, beginning with a letter or digit",
                code="bad-matrix",
            )

    def arguments(self, out: Path) -> list[str]:
        """Return the words after ``xxdeploy`` that make this cell's bundle in ``out``, replacing what is there."""
        words = words_of({**flag_of(self.precision), **dict(sorted(self.options.items()))})
        return ["export", *words, f"--out={out}", "--force", "--json", "--", self.model]

    @property
    def digest(self) -> str:
        """SHA-256 of what the bundle depends on: the options, the files that they name, the versions of the tools.

        Files count by their contents; folders, which may hold a million pictures, by names and sizes.
        """
        named = [self.model, *(value for value in self.options.values() if isinstance(value, str))]
        asked = {
            "model": self.model,
            "precision": self.precision,
            "options": dict(self.options),
            "files": {name: _trace(Path(name)) for name in named if Path(name).exists()},
            "tools": tool_versions(),
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def memory(self) -> int:
        """Bytes that its process may use: a base for the libraries, so many times its weights, for INT8 some a layer.

        Chosen above what was measured: see docs/matrix.md.
        """
        weights = self.weight_bytes
        if weights is None:
            return _UNKNOWN
        besides = _ENGINE if self.options.get("target", "cpu") != "cpu" else 0
        if self.precision == "int8":
            depth = _UNKNOWN_DEPTH if is_model_file(self.model) else find(self.model).depth
            return int(_BASE_INT8 + _LAYER_INT8 * depth + _TIMES_WEIGHTS_INT8 * weights) + besides
        return _BASE + _TIMES_WEIGHTS * weights + besides

    @property
    def weight_bytes(self) -> int | None:
        """Bytes of its float32 weights, None where they cannot be told without opening the file."""
        if is_model_file(self.model):
            path = Path(self.model)
            return path.stat().st_size if path.is_file() else None
        return 4 * find(self.model).parameters


def is_model_file(model: str) -> bool:
    """Return whether ``model`` means a file rather than a name of the catalog."""
    return model.lower().endswith(MODEL_FILES)


def cells_from(models: Iterable[str], precisions: Sequence[str], options: Mapping[str, Value]) -> tuple[Cell, ...]:
    """Return the cells of every network in every precision, with the same options.

    Options that are about INT8 only are left to the cells that are.

    Raises
    ------
    UsageError
        ``unknown-model``, ``unknown-precision``, ``bad-matrix``; ``repeated-cell``.
    """
    return distinct(cell_from(model, precision, options) for model in models for precision in precisions)


def cell_from(model: str, precision: str, options: Mapping[str, Value], name: str | None = None) -> Cell:
    """Return one cell; its bundle is called as ``xxdeploy export`` would call it."""
    known = model if is_model_file(model) else find(model).name
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).stem).strip("-.") if is_model_file(model) else known
    kept = {name: value for name, value in options.items() if precision in OPTIONS[name].scope.precisions}
    target = options.get("target", "cpu")
    suffix = "" if target == "cpu" else f"-{target}"
    return Cell(f"{name or stem}-{precision}{suffix}", known, precision, kept)


def all_models() -> tuple[str, ...]:
    """Return the names of the catalog, the smallest network first: results come early, and what fails late is rare."""
    return tuple(spec.name for spec in sorted(CATALOG, key=lambda spec: spec.parameters))


def distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return the cells. ``UsageError``: ``repeated-cell``, two write one bundle; ``bad-matrix``, there is none."""
    found: dict[str, Cell] = {}
    for cell in cells:
        if cell.name.lower() in found:
            raise UsageError(
                f"{cell.name} is asked for twice",
                hint='name each network once; in a file give one of them another name = "..."',
                code="repeated-cell",
            )
        found[cell.name.lower()] = cell
    if not found:
        raise UsageError("the matrix is empty", hint="name a network and a precision, or use --all", code="bad-matrix")
    return tuple(found.values())


def _trace(path: Path) -> str:
    """Return what stands for the contents of a file or folder."""
    if path.is_file():
        return file_digest(path).hex()
    total = hashlib.sha256()
    for folder, folders, files in os.walk(path, followlinks=False):
        folders.sort()
        for file in sorted(files):
            whole = Path(folder, file)
            size = whole.stat().st_size if whole.is_file() else -1
            total.update(f"{whole.relative_to(path).as_posix()}:{size}\n".encode(errors="surrogateescape"))
    return total.hexdigest()
