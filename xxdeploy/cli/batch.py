"""``xxdeploy export`` of more than one bundle: names, ``--all`` or a TOML file. Called by ``cli/export.py``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.cli.output import console, print_json, print_line, print_table
from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.exporter.option_fields import given_in
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.batch.jobs import Cell
    from xxdeploy.batch.records import CellRecord
    from xxdeploy.batch.run import Limits
    from xxdeploy.cli.export import BatchRequest
    from xxdeploy.exporter.option_fields import Option, Value

_GB = 10**9


def is_batch(models: Sequence[str], request: BatchRequest) -> bool:
    """Return whether a command asks for more than one bundle.

    Raises
    ------
    UsageError
        ``missing-argument``; ``bad-matrix`` for options of a batch with one network, and for names with ``--all``.
    """
    if request.every and models:
        raise UsageError("--all and names are given", hint="leave one of them out", code="bad-matrix")
    if not models and not request.every:
        raise UsageError(
            "`xxdeploy export` needs MODEL",
            hint="`xxdeploy export --help` shows how it is used",
            code="missing-argument",
        )
    several = request.every or len(models) > 1 or request.precisions is not None or models[0].lower().endswith(".toml")
    resources = (request.jobs, request.memory, request.job_memory, request.timeout, request.cluster)
    if not several and any(value is not None for value in resources):
        raise UsageError(
            "--jobs, --memory, --memory-per-cell, --timeout and --cluster are for more than one bundle",
            hint="leave them out, or give several names, a .toml file or --all",
            code="bad-matrix",
        )
    return several


def export_batch(models: Sequence[str], groups: Iterable[Any], request: BatchRequest) -> None:
    """Export the batch that a command describes, with the options in ``groups``, and print its table.

    Raises
    ------
    VerificationError
        ``matrix-failed``, at the end, if jobs failed: how many, and which.
    UsageError
        What is wrong with the request, before anything runs.
    """
    with extra("export"):
        from xxdeploy.batch.run import default_limits, run_matrix
        from xxdeploy.batch.summary import write_summary
    given = given_in(groups)
    force = any(option.name == "force" for option in given)
    cells = _cells(models, given, request)
    limits = default_limits(
        jobs=request.jobs,
        memory=_bytes(request.memory),
        cell_memory=_bytes(request.job_memory),
        timeout=request.timeout,
    )
    out = request.out or Path("exports")
    line = _Lines(len(cells), silent=request.as_json)
    if request.cluster is not None:
        records = _on_cluster(request.cluster, cells, out, limits, line, force=force)
    else:
        records = run_matrix(cells, out, limits, force=force, on_cell=line)
    paths = write_summary(cells, records, out)
    if request.as_json:
        print_json({"cells": records, "summary": paths})
    else:
        _show(records, paths)
    if failed := [record.name for record in records if record.state != "done"]:
        raise VerificationError(
            f"{len(failed)} of {len(records)} bundles failed: {', '.join(failed[:8])}{' ...' if failed[8:] else ''}",
            hint="the table says why; run the command again to repeat only these",
            code="matrix-failed",
        )


def _cells(models: Sequence[str], given: dict[Option, Value], request: BatchRequest) -> tuple[Cell, ...]:
    from xxdeploy.batch.jobs import SET_BY_BATCH, all_models, cells_from
    from xxdeploy.batch.toml_file import cells_from_file

    flags = tuple(option.name for option in given if option.name in ("fp16", "int8"))
    precisions: tuple[str, ...] | None = flags[::-1] or None
    if request.precisions is not None:
        if flags:
            raise UsageError(
                f"--precisions and --{flags[0]} are given", hint="leave one of them out", code="bad-matrix"
            )
        precisions = tuple(dict.fromkeys(word.strip() for word in request.precisions.split(",")))
    options = {
        option.name: str(value) if isinstance(value, Path) else value
        for option, value in given.items()
        if option.name not in SET_BY_BATCH
    }
    files = [model for model in models if model.lower().endswith(".toml")]
    if files and len(models) > 1:
        raise UsageError(f"{files[0]} and other names are given", hint="give a batch file alone", code="bad-matrix")
    if files:
        return cells_from_file(Path(files[0]), options, precisions)
    return cells_from(all_models() if request.every else models, precisions or ("fp32",), options)


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * _GB)


def _on_cluster(
    address: str, cells: tuple[Cell, ...], out: Path, limits: Limits, line: _Lines, *, force: bool
) -> tuple[CellRecord, ...]:
    from xxdeploy.batch.dask import ClusterExecutor, cluster
    from xxdeploy.batch.run import run_matrix

    with cluster(address) as client:
        return run_matrix(cells, out, limits, force=force, on_cell=line, execute=ClusterExecutor(client))


class _Lines:
    """A line on stderr as each cell ends."""

    def __init__(self, total: int, *, silent: bool) -> None:
        self._total, self._done, self._silent = total, 0, silent

    def __call__(self, cell: Cell, record: CellRecord) -> None:
        from xxdeploy.batch.summary import summary_row
        from xxdeploy.cli.failure import printable

        self._done += 1
        if self._silent:
            return
        row = summary_row(record)
        facts = row.problem or ", ".join(text for text in (row.size, row.seconds, row.memory) if text != "-")
        place = f"{self._done:{len(str(self._total))}}/{self._total}"
        console(stderr=True).print(printable(f"{place} {cell.name}: {row.state}, {facts}"), soft_wrap=True)


def _show(records: Sequence[CellRecord], paths: tuple[Path, Path]) -> None:
    from xxdeploy.batch.summary import HEADINGS, summary_row

    rows = [summary_row(record) for record in records]
    table = [row.cells for row in rows]
    kept = [column for column in range(len(HEADINGS)) if {cells[column] for cells in table} != {"-"}]
    print_table([HEADINGS[column] for column in kept], [[cells[column] for column in kept] for cells in table], left=2)
    for row in rows:
        if row.problem:
            print_line(f"{row.name}: {row.problem}", hang=2)
    print_line()
    print_line(f"wrote {paths[0]} and {paths[1]}")
