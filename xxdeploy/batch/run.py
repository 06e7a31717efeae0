"""Runs a matrix: as many cells at once as memory and processors allow, each to its end, whatever becomes of others."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from xxdeploy.batch.cards import card_from_bundle, text_from_card
from xxdeploy.batch.jobs import Cell
from xxdeploy.batch.process import COMMAND, Ended, Running
from xxdeploy.batch.records import CellRecord, Records, manifest_digest, only_run
from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.files import write_atomic

TIMEOUT = 3600.0
RESULTS = "results"
_POLL_SECONDS = 0.1
_SHARE_OF_MEMORY = 0.85

OnCell = Callable[[Cell, CellRecord], None]
"""Called as each cell ends, or is found to be finished."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a matrix may use.

    ``jobs`` cells at once; ``memory`` bytes for all of them together; ``cell_memory`` bytes for each (None: by its
    number of weights); ``timeout`` seconds for each.
    """

    jobs: int
    memory: int
    cell_memory: int | None = None
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.memory < 1 or (self.cell_memory or 1) < 1 or not self.timeout > 0:
            raise UsageError(
                "a matrix needs at least one job, some memory and some time",
                hint="--jobs 1 or more; --memory, --memory-per-cell in GB and --timeout in seconds above 0",
                code="bad-limits",
            )

    def of(self, cell: Cell) -> int:
        """Return the bytes that one cell gets: never more than there are for all."""
        return min(self.cell_memory or cell.memory, self.memory)


Executor: TypeAlias = Callable[[Sequence[Cell], Path, Path, Limits], Iterator[tuple[Cell, Ended]]]
"""Runs cells somewhere, given the folder of bundles and that of logs; yields each with how it ended, in any order."""


def default_limits(
    *, jobs: int | None = None, memory: int | None = None, cell_memory: int | None = None, timeout: float | None = None
) -> Limits:
    """Fill in what this machine allows: half its processors, as each cell uses several, and 85 % of free memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = int(_SHARE_OF_MEMORY * free_memory())
    return Limits(
        max(1, cores // 2) if jobs is None else jobs,
        free if memory is None else memory,
        cell_memory,
        TIMEOUT if timeout is None else timeout,
    )


def free_memory() -> int:
    """Return the bytes that can be used here: what Linux says is available, within the control group's limit."""
    available = 8_000_000_000  # where nothing can be asked
    with contextlib.suppress(OSError, ValueError, IndexError):
        info = Path("/proc/meminfo").read_text()
        available = 1024 * int(info.split("MemAvailable:")[1].split()[0])
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())  # "max" is no number: no limit
        available = min(available, most - int((group / "memory.current").read_text()))
    return max(available, 1)


def run_matrix(
    cells: Sequence[Cell],
    out: Path,
    limits: Limits,
    *,
    force: bool = False,
    on_cell: OnCell | None = None,
    execute: Executor | None = None,
) -> tuple[CellRecord, ...]:
    """Make the bundle, the record and the card of every cell that is not finished yet.

    Bundles land in ``OUT/NAME``, cards in ``OUT/results/NAME.json``. ``force`` repeats finished cells and replaces
    bundles that no matrix made. ``execute`` runs them elsewhere (``batch/dask.py``).

    Returns
    -------
    tuple[CellRecord, ...]
        In the order of ``cells``. A cell that failed has ``state`` ``failed``: nothing is raised for it.

    Raises
    ------
    UsageError
        ``matrix-running``, ``output-unwritable``.
    """
    out = out.resolve()
    records, found = Records(out), dict[str, CellRecord]()
    report = on_cell or (lambda _cell, _record: None)

    def end(cell: Cell, record: CellRecord) -> None:
        found[cell.name] = record
        report(cell, record)

    with only_run(out):
        todo, digests = [], {}
        for cell in cells:
            digests[cell.name] = digest = cell.digest
            if not force and (known := records.finished(cell, digest)) is not None:
                _write_card(out, cell, known)  # a card that was deleted comes back
                end(cell, replace(known, again=True))
            elif not force and not records.owns(cell):
                # Not written down: the record of what made the bundle stays what it is.
                end(cell, CellRecord(cell.name, digest, "failed", error=_EXISTS))
            else:
                todo.append(cell)
        for cell in todo:  # from here on what lies in its place is ours
            records.write(cell, CellRecord(cell.name, digests[cell.name], "begun"))
        for cell, ended in (execute or execute_here)(todo, out, records.folder, limits):
            record = _record(cell, digests[cell.name], out, ended)
            _write_card(out, cell, record)
            records.write(cell, record)
            end(cell, record)
    return tuple(found[cell.name] for cell in cells)


_EXISTS = {
    "code": "output-exists",
    "message": "a bundle is there that no matrix made",
    "hint": "--force replaces it, --out DIR writes elsewhere",
}


def execute_here(
    cells: Sequence[Cell], out: Path, logs: Path, limits: Limits, command: tuple[str, ...] = COMMAND
) -> Iterator[tuple[Cell, Ended]]:
    """Run cells on this machine. The first that fits into the memory that is left begins; a large one waits.

    When the caller stops, the cells that run are stopped, too.
    """
    waiting, running = list(cells), list[Running]()
    try:
        while waiting or running:
            left = limits.memory - sum(each.memory for each in running)
            fitting = (cell for cell in waiting if limits.of(cell) <= left)
            if len(running) < limits.jobs and (cell := next(fitting, None)) is not None:
                waiting.remove(cell)
                running.append(
                    Running(
                        cell,
                        out / cell.name,
                        logs,
                        memory=limits.of(cell),
                        timeout=limits.timeout,
                        command=command,
                    )
                )
                continue
            ended = [(each, result) for each in running if (result := each.poll()) is not None]
            for each, result in ended:
                running.remove(each)
                yield each.cell, result
            if not ended:
                time.sleep(_POLL_SECONDS)
    finally:
        _stop(running)


def _stop(running: Iterable[Running]) -> None:
    for each in running:
        each.stop()


def _record(cell: Cell, digest: str, out: Path, ended: Ended) -> CellRecord:
    bundle = out / cell.name
    there = manifest_digest(bundle)  # where it failed, what an earlier run left
    base = CellRecord(cell.name, digest, "failed", round(ended.seconds, 1), ended.peak_bytes, there)
    if ended.error is not None:
        return replace(base, error=ended.error)
    try:
        card = card_from_bundle(cell, bundle)
    except XXDeployError as error:
        return replace(base, error={"code": error.code, "message": error.message, "hint": error.hint})
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"its bundle cannot be read: {type(error).__name__}: {error}"
        return replace(base, error={"code": "no-result", "message": message, "hint": "look into its log"})
    return replace(base, state="done", card=card)


def _write_card(out: Path, cell: Cell, record: CellRecord) -> None:
    if record.card is None:
        return
    path = out / RESULTS / f"{cell.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = text_from_card(dict(record.card))
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
