"""``xxdeploy export`` of more than one bundle: names, ``--all`` or a TOML file. Called by ``cli/export.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.cli.output import console, print_json, print_line, print_table
from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.batch.jobs import Cell, Option
    from xxdeploy.batch.records import CellRecord
    from xxdeploy.batch.run import Limits

_OWN = frozenset(
    {"models", "every", "precisions", "jobs", "memory", "cell_memory", "timeout", "cluster", "int8", "fp16", "out"}
    | {"force", "as_json"}
)
"""Arguments of the command that are about the matrix; all others go to each cell."""
_NAMES = {"evaluation": "eval"}
_GB = 10**9


def is_matrix(given: Mapping[str, Any]) -> bool:
    """Return whether the arguments of ``xxdeploy export`` ask for more than one bundle.

    Raises
    ------
    UsageError
        ``missing-argument``; ``bad-matrix`` for options of a matrix with one network, and for names beside ``--all``.
    """
    models: Sequence[str] = given["models"]
    if given["every"] and models:
        raise UsageError("--all and names are given", hint="leave one of them out", code="bad-matrix")
    if not models and not given["every"]:
        raise UsageError(
            "`xxdeploy export` needs MODEL",
            hint="`xxdeploy export --help` shows how it is used",
            code="missing-argument",
        )
    matrix = given["every"] or len(models) > 1 or models[0].lower().endswith(".toml") or given["precisions"] is not None
    alone = [name for name in ("jobs", "memory", "cell_memory", "timeout", "cluster") if given[name] is not None]
    if alone and not matrix:
        raise UsageError(
            "limits and --cluster are for more than one bundle",
            hint="leave them out, or give several names, a .toml file or --all",
            code="bad-matrix",
        )
    return bool(matrix)


def export_matrix(given: Mapping[str, Any]) -> None:
    """Export the matrix that the arguments of ``xxdeploy export`` describe, and print its table.

    Raises
    ------
    VerificationError
        ``matrix-failed``, at the end, where a cell failed: how many, and which.
    UsageError
        What is wrong with the request, before anything runs.
    """
    with extra("export"):
        from xxdeploy.batch.run import default_limits, run_matrix
        from xxdeploy.batch.summary import write_summary
    cells = _cells(given)
    limits = default_limits(
        jobs=given["jobs"],
        memory=_bytes(given["memory"]),
        cell_memory=_bytes(given["cell_memory"]),
        timeout=given["timeout"],
    )
    out = given["out"] or Path("exports")
    line = _Lines(len(cells), silent=given["as_json"])
    if given["cluster"] is not None:
        records = _on_cluster(given["cluster"], cells, out, limits, line, force=given["force"])
    else:
        records = run_matrix(cells, out, limits, force=given["force"], on_cell=line)
    paths = write_summary(cells, records, out)
    if given["as_json"]:
        print_json({"cells": records, "summary": paths})
    else:
        _show(records, paths)
    if failed := [record.name for record in records if record.state != "done"]:
        raise VerificationError(
            f"{len(failed)} of {len(records)} bundles failed: {', '.join(failed[:8])}{' ...' if failed[8:] else ''}",
            hint="the table says why; run it again, and only these are repeated",
            code="matrix-failed",
        )


def _cells(given: Mapping[str, Any]) -> tuple[Cell, ...]:
    from xxdeploy.batch.jobs import all_models, cells_from
    from xxdeploy.batch.toml_file import cells_from_file

    models, options = given["models"], _options(given)
    precisions = _precisions(given)
    files = [model for model in models if model.lower().endswith(".toml")]
    if files and len(models) > 1:
        raise UsageError(
            f"{files[0]} is given beside other names", hint="a matrix file stands alone", code="bad-matrix"
        )
    if files:
        return cells_from_file(Path(files[0]), options, precisions)
    return cells_from(all_models() if given["every"] else models, precisions or ("fp32",), options)


def _precisions(given: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what is asked for, None for the usual."""
    flags = tuple(name for name in ("fp16", "int8") if given.get(name))
    if given["precisions"] is None:
        return flags or None
    if flags:
        raise UsageError(f"--precisions and --{flags[0]} are given", hint="leave one of them out", code="bad-matrix")
    return tuple(dict.fromkeys(word.strip() for word in given["precisions"].split(",")))


def _options(given: Mapping[str, Any]) -> dict[str, Option]:
    """Return the options for each cell under their names on the command line, without those that are not given."""
    found: dict[str, Option] = {}
    for name, value in given.items():
        absent = value is None or value is False or value == ()
        if name in _OWN or absent or (name, value) in (("weights", "imagenet"), ("target", "cpu")):
            continue  # the last are defaults, and must not go before what a file says
        found[_NAMES.get(name, name.replace("_", "-"))] = str(value) if isinstance(value, Path) else value
    return found


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
