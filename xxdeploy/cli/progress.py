"""Show the progress of long steps on stderr: a bar per step on a terminal, a line per step elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from xxdeploy.cli.failure import printable
from xxdeploy.cli.output import console

if TYPE_CHECKING:
    from xxdeploy.results import Progress


class ProgressView:
    """A context manager around steps that is called with each ``Progress``.

    While it is open, ``print`` calls of libraries (Keras' download) go to stderr, since stdout has results only. With
    ``as_json`` it draws only bars on a terminal, so that elsewhere stderr is empty or one JSON object.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self._console = console(stderr=True)
        self._lines = not (as_json and not self._console.is_terminal)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._open: dict[str, tuple[TaskID, float, Progress]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ProgressView:
        if self._console.is_terminal:
            self._stack.enter_context(self._bars)
        self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            for step in list(self._open):
                self._finish(step)
        self._stack.close()

    def __call__(self, progress: Progress) -> None:
        """Draw one report. A step ends when its units are done, or, without a total, when the next step begins."""
        step = progress.step
        if step not in self._open:
            for other, (_, _, last) in list(self._open.items()):
                if last.total is None:
                    self._finish(other)
            task = self._bars.add_task(printable(step), total=None, count="")
            self._open[step] = task, time.monotonic(), progress
        task, started, _ = self._open[step]
        self._open[step] = task, started, progress
        # With a single unit the bar shows activity, not progress.
        counted = progress.total is not None and progress.total > 1
        count = f"{progress.done}/{progress.total}" if counted else ""
        self._bars.update(task, completed=progress.done, total=progress.total if counted else None, count=count)
        if progress.total is not None and progress.done >= progress.total:
            self._finish(step)

    def _finish(self, step: str) -> None:
        """Replace the bar by a line."""
        task, started, last = self._open.pop(step)
        self._bars.remove_task(task)
        if self._lines:
            count = f" {last.done}" if last.done > 1 else ""
            self._console.print(f"{printable(step)}{count} ({time.monotonic() - started:.1f} s)")
