"""What is known of each cell, on disk: a run that was killed goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xxdeploy.batch.jobs import Cell
from xxdeploy.errors import UsageError
from xxdeploy.files import write_atomic
from xxdeploy.runtime.bundle.manifest import MANIFEST

STATE = ".matrix"
"""Folder of records and logs, beside the bundles."""


@dataclass(frozen=True, slots=True)
class CellRecord:
    """What became of a cell.

    ``state`` is ``done``, ``failed`` or, in a file that a killed run left, ``begun``; ``digest`` that of the cell;
    ``manifest`` the SHA-256 of its bundle's manifest; ``card`` its result card; ``error`` has code, message and hint;
    ``again`` tells that it was taken from an earlier run.
    """

    name: str
    digest: str
    state: str
    seconds: float = 0.0
    peak_bytes: int | None = None
    manifest: str | None = None
    card: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None
    again: bool = False


class Records:
    """The records in ``OUT/.matrix``, one file a cell, each written whole or not at all."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / STATE

    def read(self, cell: Cell) -> CellRecord | None:
        """Return what is known of a cell; None for nothing, also where the file is damaged."""
        try:
            value = json.loads(self._path(cell).read_text(encoding="utf-8"))
            known = {field.name for field in fields(CellRecord)}
            record = CellRecord(**{key: value[key] for key in value if key in known})
            return record if record.name == cell.name and isinstance(record.digest, str) else None
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def write(self, cell: Cell, record: CellRecord) -> None:
        """Write a record; a reader sees the old one or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path(cell), json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")

    def finished(self, cell: Cell, digest: str) -> CellRecord | None:
        """Return the record of a cell that need not be repeated: done, as it is asked for, its bundle in place."""
        record = self.read(cell)
        if record is None or record.state != "done" or record.digest != digest or record.card is None:
            return None
        return record if record.manifest == manifest_digest(self.out / cell.name) else None

    def owns(self, cell: Cell) -> bool:
        """Return whether what lies in the place of the cell's bundle is of an earlier matrix, or of none."""
        record = self.read(cell)
        if not (self.out / cell.name).exists():
            return True
        return record is not None and (
            record.state == "begun" or record.manifest == manifest_digest(self.out / cell.name)
        )

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"


def manifest_digest(bundle: Path) -> str | None:
    """Return the SHA-256 of a bundle's manifest, which holds the hashes of all its files; None without one."""
    try:
        return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Keep a second matrix out of the same folder. The lock goes with the process, however it ends.

    Raises
    ------
    UsageError
        ``matrix-running``; ``output-unwritable``.
    """
    try:
        folder = out / STATE
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written: {error.strerror}", hint="choose another --out", code="output-unwritable"
        ) from error
    with file:
        try:
            import fcntl
        except ImportError:  # Windows: two runs there would repeat each other's work, and spoil nothing
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another matrix is being exported to {out}",
                hint="wait for it, or choose another --out",
                code="matrix-running",
            ) from error
        yield
