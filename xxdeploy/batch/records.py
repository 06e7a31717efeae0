"""The record of each job on disk, from which a run that was killed continues, and the lock of the output folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xxdeploy.batch.jobs import Job
from xxdeploy.errors import UsageError
from xxdeploy.files import write_atomic
from xxdeploy.runtime.bundle.manifest import MANIFEST

STATE = ".matrix"
"""Folder of records and logs, next to the bundles."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The result of a job, under its ``name`` and ``digest``.

    ``state`` is ``done``, ``failed`` or, in a file that a killed run left, ``begun``; ``peak_bytes`` is the largest
    resident memory of its processes; ``manifest`` the SHA-256 of its bundle's manifest; ``error`` holds code, message
    and hint; ``again`` is True if the record is of an earlier run, which this one did not repeat.
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
    """The records in ``OUT/.matrix``, one file a job, each written whole or not at all."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / STATE

    def read(self, job: Job) -> JobRecord | None:
        """Return the record of a job; None if there is none, or its file is damaged."""
        try:
            value = json.loads(self._path(job).read_text(encoding="utf-8"))
            known = {field.name for field in fields(JobRecord)}
            record = JobRecord(**{key: value[key] for key in value if key in known})
            return record if record.name == job.name and isinstance(record.digest, str) else None
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def write(self, job: Job, record: JobRecord) -> None:
        """Write a record; a reader sees the old one or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path(job), json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")

    def finished(self, job: Job, digest: str) -> JobRecord | None:
        """Return the record of a job that is done, with this digest and an unchanged bundle; else None."""
        record = self.read(job)
        if record is None or record.state != "done" or record.digest != digest or record.card is None:
            return None
        return record if record.manifest == manifest_digest(self.out / job.name) else None

    def owns(self, job: Job) -> bool:
        """Return True if the output folder is absent or was written by an earlier run, so it may be replaced."""
        bundle, record = self.out / job.name, self.read(job)
        if record is None or not bundle.exists():
            return not bundle.exists()
        return record.state == "begun" or record.manifest == manifest_digest(bundle)

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.name}.json"


def manifest_digest(bundle: Path) -> str | None:
    """Return the SHA-256 of a bundle's manifest, which holds the hashes of all its files; None without one."""
    try:
        return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Keep a second run out of the same folder. The lock ends with the process, however that ends.

    ``UsageError`` ``matrix-running``, ``output-unwritable``.
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
        except ImportError:  # Windows: two runs there repeat each other's work and damage nothing
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message, hint = f"another batch is being exported to {out}", "wait for it, or choose another --out"
            raise UsageError(message, hint=hint, code="matrix-running") from error
        yield
