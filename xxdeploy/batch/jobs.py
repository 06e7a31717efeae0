"""The jobs of a batch: every network in every precision, and the name, memory and options of each.

A job makes one bundle. Its options are those of ``xxdeploy export`` under their names on the command line without the
dashes, so a job is a command that a person can repeat.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.datasets.images import model_digest
from xxdeploy.errors import UsageError
from xxdeploy.exporter.assemble import bundle_name, tool_versions
from xxdeploy.exporter.option_fields import Value, flag_of, words_of
from xxdeploy.exporter.options import OPTIONS
from xxdeploy.exporter.source import is_model_file
from xxdeploy.models.catalog import CATALOG, find

SET_BY_BATCH = frozenset({"int8", "fp16", "force"})
"""Options that a batch sets for its jobs."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BASE, _BASE_INT8 = 1_500_000_000, 1_700_000_000
_TIMES_WEIGHTS, _TIMES_WEIGHTS_INT8 = 6, 6.5
_LAYER_INT8 = 4_000_000
"""Bytes a layer: INT8 holds a tensor of each layer, in float and in integers, to measure the loss of each."""
_UNKNOWN_DEPTH = 400
_ENGINE = 1_000_000_000
"""Bytes that TensorRT's builder adds."""
_UNKNOWN = 4_000_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """One network (of the catalog, or a model file) in one precision.

    ``name`` is that of its bundle's folder, its record and its card, unique in the batch; ``options`` are the other
    options of ``xxdeploy export``: ``{"weights": "none", "no-top": True}``. ``UsageError`` ``unknown-precision``,
    ``bad-matrix``: the name cannot be a folder.
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
        """Return the words after ``xxdeploy`` that make this job's bundle in ``out``, replacing an earlier one."""
        words = words_of({**flag_of(self.precision), **dict(sorted(self.options.items()))})
        return ["export", *words, f"--out={out}", "--force", "--json", "--", self.model]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of all that the bundle depends on: options, the files that they name, tools' versions.

        Files count by their contents; folders, which may hold a million images, by names and sizes.
        """
        named = [self.model, *(value for value in self.options.values() if isinstance(value, str))]
        asked = {
            "model": self.model,
            "precision": self.precision,
            "options": dict(self.options),
            "files": {name: _fingerprint(Path(name)) for name in named if Path(name).exists()},
            "tools": tool_versions(),
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def memory(self) -> int:
        """Return the bytes that its process may use, which are more than was measured: see docs/how-to/batch.md."""
        weights = self.weight_bytes
        if weights is None:
            return _UNKNOWN
        engine = _ENGINE if self.options.get("target", "cpu") not in ("cpu", "litert", "web") else 0
        if self.precision == "int8":
            depth = _UNKNOWN_DEPTH if is_model_file(self.model) else find(self.model).depth
            return int(_BASE_INT8 + _LAYER_INT8 * depth + _TIMES_WEIGHTS_INT8 * weights) + engine
        return _BASE + _TIMES_WEIGHTS * weights + engine

    @property
    def weight_bytes(self) -> int | None:
        """Return the bytes of its float32 weights (of a model file: its size); None if the file is absent."""
        if is_model_file(self.model):
            path = Path(self.model)
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            return sum(file.stat().st_size for file in files) or None
        return 4 * find(self.model).parameters


def jobs_from(models: Iterable[str], precisions: Sequence[str], options: Mapping[str, Value]) -> tuple[Job, ...]:
    """Return the jobs of every network in every precision. Errors as :func:`distinct`; ``unknown-model``."""
    return distinct(job_from(model, precision, options) for model in models for precision in precisions)


def job_from(model: str, precision: str, options: Mapping[str, Value], name: str | None = None) -> Job:
    """Return one job, with the options that have an effect in its precision.

    Its bundle is called as by ``xxdeploy export``, with ``name`` in place of the network's.
    """
    known = model if is_model_file(model) else find(model).name
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", _stem(Path(model))).strip("-.") if is_model_file(model) else known
    effective = {option: value for option, value in options.items() if precision in OPTIONS[option].scope.precisions}
    target, weights = str(options.get("target", "cpu")), str(options.get("weights", "imagenet"))
    own = bundle_name(name, precision, target=target) if name else None
    return Job(own or bundle_name(stem, precision, weights=weights, target=target), known, precision, effective)


def all_models() -> tuple[str, ...]:
    """Return the names of the catalog, the smallest network first, so that results and errors come early."""
    return tuple(spec.name for spec in sorted(CATALOG, key=lambda spec: spec.parameters))


def distinct(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Return the jobs. ``UsageError`` ``repeated-cell``: two would write one bundle; ``bad-matrix``: there are none."""
    by_name: dict[str, Job] = {}
    for job in jobs:
        if job.name.lower() in by_name:
            raise UsageError(
                f"two jobs would write the bundle {job.name}",
                hint='name each network once; in a file give one of them another name = "..."',
                code="repeated-cell",
            )
        by_name[job.name.lower()] = job
    if not by_name:
        raise UsageError("the batch is empty", hint="name a network and a precision, or use --all", code="bad-matrix")
    return tuple(by_name.values())


def _stem(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.stem


def _fingerprint(path: Path) -> str:
    """Return a digest of the contents of a file or a SavedModel, or of the names and sizes in another folder."""
    if path.is_file() or is_model_file(str(path)):
        return model_digest(path).hex()
    total = hashlib.sha256()
    for folder, folders, files in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            size = file.stat().st_size if file.is_file() else -1
            total.update(f"{file.relative_to(path).as_posix()}:{size}\n".encode(errors="surrogateescape"))
    return total.hexdigest()
