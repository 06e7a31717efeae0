"""Show the progress of long steps on stderr: a bar per step on a terminal, a line per step elsewhere.

Steps of the whole command are numbered (``[3/10] convert``); steps inside them are indented. Where there is no
terminal, a step that takes long prints a line every 15 seconds, so that a log shows that it goes on.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from xxdeploy.cli.failure import printable
from xxdeploy.cli.output import console
from xxdeploy.cli.verbosity import verbosity

if TYPE_CHECKING:
    from xxdeploy.results import Progress


class ProgressView:
    """A context manager around steps that is called with each ``Progress``.

    While it is open, ``print`` calls of libraries (Keras' download) go to stderr, since stdout has results only. With
    ``as_json`` it draws only bars on a terminal, so that elsewhere stderr is empty or one JSON object. --quiet draws
    nothing; --log-file gets every line. ``beat`` is the number of seconds between the lines of a long step.
    """

    def __init__(self, *, as_json: bool = False, beat: float = 15.0) -> None:
        self._beat = beat
        self._console = console(stderr=True)
        self._verbosity = verbosity()
        self._draws = self._console.is_terminal and not self._verbosity.quiet
        self._lines = not self._verbosity.quiet and not (as_json and not self._console.is_terminal)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._open: dict[str, _Step] = {}
        self._said = time.monotonic()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ProgressView:
        if self._draws:
            self._stack.enter_context(self._bars)
        else:
            self._stack.enter_context(_every(self._beat / 3, self._say_what_is_open))
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
            for other, seen in list(self._open.items()):
                if seen.last.total is None:
                    self._finish(other)
            inside = any(seen.last.place for seen in self._open.values())
            title = _title(progress, inside=inside)
            task = self._bars.add_task(title, total=None, count="")
            self._open[step] = _Step(title, task, time.monotonic(), progress)
        self._open[step].last = progress
        # With a single unit the bar shows activity, not progress.
        counted = progress.total is not None and progress.total > 1
        total = progress.total if counted else None
        self._bars.update(self._open[step].task, completed=progress.done, total=total, count=_count(progress))
        if progress.total is not None and progress.done >= progress.total:
            self._finish(step)

    def _finish(self, step: str) -> None:
        """Replace the bar by a line."""
        seen = self._open.pop(step)
        self._bars.remove_task(seen.task)
        count = f" {seen.last.done}" if seen.last.done > 1 else ""
        self._say(f"{seen.title}{count} ({time.monotonic() - seen.started:.1f} s)")

    def _say_what_is_open(self) -> None:
        """Print the innermost open step, unless a line was printed in the meantime."""
        steps = list(self._open.values())
        if time.monotonic() - self._said < self._beat or not steps:
            return
        seen = steps[-1]
        self._say(f"{seen.title} {_count(seen.last)}".rstrip() + f" ... {time.monotonic() - seen.started:.0f} s")

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self._verbosity.record(line)
        if self._lines:
            self._console.print(line)


@dataclass
class _Step:
    """A step that has begun: its title, its bar, its start, and the last report."""

    title: str
    task: TaskID
    started: float
    last: Progress


def _title(progress: Progress, *, inside: bool) -> str:
    """Return ``[3/10] convert``, or the name, indented if it is a step ``inside`` a numbered one."""
    if progress.place is None:
        return f"  {printable(progress.step)}" if inside else printable(progress.step)
    number, steps = progress.place
    return f"[{number}/{steps}] {printable(progress.step)}"


def _count(progress: Progress) -> str:
    return f"{progress.done}/{progress.total}" if progress.total is not None and progress.total > 1 else ""


@contextlib.contextmanager
def _every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call a function at intervals from another thread, until the block ends."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, name="xxdeploy progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
