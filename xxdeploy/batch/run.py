"""Runs the jobs of a batch: as many at once as memory and processors allow; a failed job does not stop the others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import psutil

from xxdeploy.batch.cards import card_from_bundle, text_from_card
from xxdeploy.batch.jobs import Job
from xxdeploy.batch.process import COMMAND, POLL_SECONDS, Ended, Running, document_of
from xxdeploy.batch.records import JobRecord, Records, manifest_digest, only_run
from xxdeploy.cores import cores
from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.files import write_atomic

TIMEOUT = 3600.0
RESULTS = "results"
_SHARE_OF_MEMORY = 0.85

OnJob = Callable[[Job, JobRecord], None]
"""Called as each job ends, or is skipped because an earlier run finished it."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The limits of a batch: ``parallel`` jobs at once, in ``memory`` bytes together. ``UsageError`` ``bad-limits``.

    Each job gets ``job_memory`` bytes (None: by its number of weights) and ``timeout`` seconds.
    """

    parallel: int
    memory: int
    job_memory: int | None = None
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        if self.parallel < 1 or self.memory < 1 or (self.job_memory or 1) < 1 or not self.timeout > 0:
            raise UsageError(
                "a batch needs at least one job at once, some memory and some time",
                hint="--jobs 1 or more; --memory, --memory-per-cell in GB and --timeout in seconds above 0",
                code="bad-limits",
            )

    def bytes_for(self, job: Job) -> int:
        """Return the memory limit of one job in bytes: at most that of all jobs together."""
        return min(self.job_memory or job.memory, self.memory)


Executor: TypeAlias = Callable[[Sequence[Job], Path, Path, Resources], Iterator[tuple[Job, Ended]]]
"""Runs jobs, given the folder of bundles and the folder of logs; yields each job with how it ended, in any order."""


def default_resources(
    *,
    parallel: int | None = None,
    memory: int | None = None,
    job_memory: int | None = None,
    timeout: float | None = None,
) -> Resources:
    """Fill in the limits of this machine: half its processors, as each job uses several, and 85 % of free memory."""
    return Resources(
        max(1, cores() // 2) if parallel is None else parallel,
        int(_SHARE_OF_MEMORY * free_memory()) if memory is None else memory,
        job_memory,
        TIMEOUT if timeout is None else timeout,
    )


def free_memory() -> int:
    """Return the bytes that are available, also within the control group's limit."""
    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max", which is no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        available = min(available, limit - used)
    return max(available, 1)


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    resources: Resources,
    *,
    force: bool = False,
    on_job: OnJob | None = None,
    execute: Executor | None = None,
) -> tuple[JobRecord, ...]:
    """Make the bundle, the record and the card of every job that is not finished yet. Errors as :func:`only_run`.

    Bundles are written to ``OUT/NAME``, cards to ``OUT/results/NAME.json``. ``force`` repeats finished jobs and
    replaces bundles that no batch made. ``execute`` runs the jobs elsewhere (``batch/dask.py``). The records are in the
    order of ``jobs``; a job that failed has the state ``failed``, and nothing is raised for it.
    """
    out = out.resolve()
    records, results = Records(out), dict[str, JobRecord]()
    report = on_job or (lambda _job, _record: None)

    def end(job: Job, record: JobRecord) -> None:
        results[job.name] = record
        report(job, record)

    with only_run(out):
        todo, digests = [], {}
        for job in jobs:
            digests[job.name] = digest = job.digest
            if not force and (known := records.finished(job, digest)) is not None:
                _write_card(out, job, known)  # restores a card that was deleted
                end(job, replace(known, again=True))
            elif not force and not records.owns(job):
                # Not written to disk: the record of the bundle's maker is kept.
                end(job, JobRecord(job.name, digest, "failed", error=_EXISTS))
            else:
                todo.append(job)
        for job in todo:  # from here on, this run owns the folders of its bundles
            records.write(job, JobRecord(job.name, digests[job.name], "begun"))
        for job, ended in (execute or execute_here)(todo, out, records.folder, resources):
            record = _record(job, digests[job.name], out, ended)
            _write_card(out, job, record)
            records.write(job, record)
            end(job, record)
    return tuple(results[job.name] for job in jobs)


_EXISTS = {
    "code": "output-exists",
    "message": "the folder has a bundle that no batch made",
    "hint": "--force replaces it, --out DIR writes elsewhere",
}


def execute_here(
    jobs: Sequence[Job], out: Path, logs: Path, resources: Resources, command: tuple[str, ...] = COMMAND
) -> Iterator[tuple[Job, Ended]]:
    """Run jobs on this machine, the first that fits into the free memory first.

    If the caller stops iterating, the running jobs are stopped, too.
    """
    waiting, running = list(jobs), list[Running]()
    try:
        while waiting or running:
            left = resources.memory - sum(process.memory for process in running)
            fitting = (job for job in waiting if resources.bytes_for(job) <= left)
            if len(running) < resources.parallel and (job := next(fitting, None)) is not None:
                waiting.remove(job)
                memory, timeout = resources.bytes_for(job), resources.timeout
                running.append(Running(job, out / job.name, logs, memory=memory, timeout=timeout, command=command))
                continue
            ended = [(process, ending) for process in running if (ending := process.poll()) is not None]
            for process, ending in ended:
                running.remove(process)
                yield process.job, ending
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for process in running:
            process.stop()


def _record(job: Job, digest: str, out: Path, ended: Ended) -> JobRecord:
    bundle = out / job.name
    manifest = manifest_digest(bundle)  # of an earlier run, if this one failed
    record = JobRecord(job.name, digest, "failed", round(ended.seconds, 1), ended.peak_bytes, manifest)
    if ended.error is not None:
        return replace(record, error=ended.error)
    try:
        card = card_from_bundle(job, bundle)
    except XXDeployError as error:
        return replace(record, error=document_of(error))
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"its bundle cannot be read: {type(error).__name__}: {error}"
        return replace(record, error={"code": "no-result", "message": message, "hint": "look into its log"})
    return replace(record, state="done", card=card)


def _write_card(out: Path, job: Job, record: JobRecord) -> None:
    if record.card is None:
        return
    path = out / RESULTS / f"{job.name}.json"
    text = text_from_card(dict(record.card))
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
