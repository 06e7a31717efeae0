"""``xxdeploy export`` of more than one bundle: names, ``--all`` or a TOML file. Called by ``cli/export.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.cli.output import console, measured_columns, print_json, print_line, print_table
from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.exporter.option_fields import PRECISIONS, given_in
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.batch.jobs import Job
    from xxdeploy.batch.records import JobRecord
    from xxdeploy.cli.export import BatchRequest, Destination
    from xxdeploy.exporter.option_fields import Value

_GB = 10**9


def is_batch(models: Sequence[str], batch: BatchRequest) -> bool:
    """Return whether a command asks for more than one bundle.

    ``UsageError``: ``missing-argument``; ``bad-matrix`` for options of a batch with one network, and for names with
    ``--all``.
    """
    if batch.all and models:
        raise UsageError("--all and names are given", hint="leave one of them out", code="bad-matrix")
    if not models and not batch.all:
        raise UsageError(
            "`xxdeploy export` needs MODEL",
            hint="`xxdeploy export --help` shows how it is used",
            code="missing-argument",
        )
    several = batch.all or len(models) > 1 or batch.precisions is not None or models[0].lower().endswith(".toml")
    resources = (batch.jobs, batch.memory, batch.memory_per_cell, batch.timeout, batch.cluster)
    if not several and any(value is not None for value in resources):
        raise UsageError(
            "--jobs, --memory, --memory-per-cell, --timeout and --cluster are for more than one bundle",
            hint="leave them out, or give several names, a .toml file or --all",
            code="bad-matrix",
        )
    return several


def export_batch(models: Sequence[str], groups: Iterable[Any], batch: BatchRequest, destination: Destination) -> None:
    """Export the batch that a command describes, with the options in ``groups``, and print its table.

    ``VerificationError`` ``matrix-failed`` comes at the end, if jobs failed; a ``UsageError`` before anything runs.
    """
    with extra("export"):
        from xxdeploy.batch.run import default_resources, run_jobs
        from xxdeploy.batch.summary import write_summary
    given = {option.name: value for option, value in given_in(groups).items()}
    jobs = _jobs(models, given, batch)
    resources = default_resources(
        parallel=batch.jobs,
        memory=_bytes(batch.memory),
        job_memory=_bytes(batch.memory_per_cell),
        timeout=batch.timeout,
    )
    out, line = destination.out or Path("exports"), _Lines(len(jobs), silent=destination.json)
    with ExitStack() as stack:
        execute = None
        if batch.cluster is not None:
            from xxdeploy.batch.dask import ClusterExecutor, cluster

            execute = ClusterExecutor(stack.enter_context(cluster(batch.cluster)))
        records = run_jobs(jobs, out, resources, force="force" in given, on_job=line, execute=execute)
    paths = write_summary(jobs, records, out)
    if destination.json:
        print_json({"cells": records, "summary": paths})
    else:
        _show(records, paths)
    if failed := [record.name for record in records if record.state != "done"]:
        raise VerificationError(
            f"{len(failed)} of {len(records)} bundles failed: {', '.join(failed[:8])}{' ...' if failed[8:] else ''}",
            hint="the table says why; run the command again to repeat only these",
            code="matrix-failed",
        )


def _jobs(models: Sequence[str], given: Mapping[str, Value], batch: BatchRequest) -> tuple[Job, ...]:
    from xxdeploy.batch.jobs import SET_BY_BATCH, all_models, jobs_from
    from xxdeploy.batch.toml_file import jobs_from_file

    flags = tuple(precision for precision in PRECISIONS if precision in given)
    precisions: tuple[str, ...] | None = flags or None
    if batch.precisions is not None:
        if flags:
            raise UsageError(
                f"--precisions and --{flags[0]} are given", hint="leave one of them out", code="bad-matrix"
            )
        precisions = tuple(dict.fromkeys(word.strip() for word in batch.precisions.split(",")))
    options: dict[str, Value] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items()
        if name not in SET_BY_BATCH
    }
    files = [model for model in models if model.lower().endswith(".toml")]
    if files and len(models) > 1:
        raise UsageError(f"{files[0]} and other names are given", hint="give a batch file alone", code="bad-matrix")
    if files:
        return jobs_from_file(Path(files[0]), options, precisions)
    return jobs_from(all_models() if batch.all else models, precisions or ("fp32",), options)


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * _GB)


class _Lines:
    """A line on stderr as each job ends."""

    def __init__(self, total: int, *, silent: bool) -> None:
        self._total, self._done, self._silent = total, 0, silent

    def __call__(self, job: Job, record: JobRecord) -> None:
        from xxdeploy.batch.summary import summary_row
        from xxdeploy.cli.failure import printable

        self._done += 1
        if self._silent:
            return
        row = summary_row(record)
        facts = row.problem or ", ".join(text for text in (row.size, row.seconds, row.memory) if text != "-")
        place = f"{self._done:{len(str(self._total))}}/{self._total}"
        console(stderr=True).print(printable(f"{place} {job.name}: {row.state}, {facts}"), soft_wrap=True)


def _show(records: Sequence[JobRecord], paths: tuple[Path, Path]) -> None:
    from xxdeploy.batch.summary import HEADINGS, summary_row

    rows = [summary_row(record) for record in records]
    print_table(*measured_columns(HEADINGS, [row.columns for row in rows]), left=2)
    for row in rows:
        if row.problem:
            print_line(f"{row.name}: {row.problem}", hang=2)
    print_line()
    print_line(f"wrote {paths[0]} and {paths[1]}")
