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
    """The result of a job.

    Attributes
    ----------
    name, digest : str
        Those of the job.
    state : str
        ``done``, ``failed`` or, in a file that a killed run left, ``begun``.
    seconds : float
        Wall-clock time.
    peak_bytes : int | None
        Largest resident memory of its processes; None if unknown.
    manifest : str | None
        SHA-256 of its bundle's manifest.
    card : Mapping[str, Any] | None
        Its result card.
    error : Mapping[str, str] | None
        Code, message and hint.
    again : bool
        True if the record is of an earlier run, which this one did not repeat.
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
        record = self.read(job)
        if not (self.out / job.name).exists():
            return True
        return record is not None and (
            record.state == "begun" or record.manifest == manifest_digest(self.out / job.name)
        )

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
        except ImportError:  # Windows: two runs there repeat each other's work and damage nothing
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another batch is being exported to {out}",
                hint="wait for it, or choose another --out",
                code="matrix-running",
            ) from error
        yield
