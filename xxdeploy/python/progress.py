"""The progress of an export: a bar in a notebook, lines on stderr elsewhere, or nothing."""

from __future__ import annotations

import html
import sys
import time
from types import TracebackType
from typing import Any

from xxdeploy.results import Progress

_BEAT = 0.2
"""Seconds between two drawings of a bar."""
_QUIET = 15.0
"""Seconds after which a long step that has no bar says how far it is."""


class Steps:
    """The state of the steps: the numbered one that runs, the one inside it, and the lines of those that ended."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.title, self.inner, self.share = "", "", 0.0
        self._started: dict[str, float] = {}

    def add(self, progress: Progress) -> str | None:
        """Note a report; return a line if a numbered step ended."""
        start = self._started.setdefault(progress.step, time.monotonic())
        ended = progress.total is not None and progress.done >= progress.total
        if ended:
            del self._started[progress.step]
        if progress.place is None:
            count = f" {progress.done}/{progress.total}" if progress.total and progress.total > 1 else ""
            self.inner = "" if ended else f"{progress.step}{count}"
            return None
        number, steps = progress.place
        self.inner, self.title = "", f"[{number}/{steps}] {progress.step}"
        self.share = (number - (not ended)) / steps
        if not ended:
            return None
        self.lines.append(f"{self.title} ({time.monotonic() - start:.1f} s)")
        return self.lines[-1]


class PlainProgress:
    """Writes a line to stderr as each step ends, and one every 15 seconds of a long one."""

    def __init__(self) -> None:
        self._steps, self._said = Steps(), time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Note a report."""
        line = self._steps.add(progress)
        if line is None and time.monotonic() - self._said > _QUIET:
            line = f"{self._steps.title} {self._steps.inner} ..."
        if line is not None:
            self._said = time.monotonic()
            _write(line)

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """End; the last line is there."""


class NotebookProgress:
    """Draws one bar in the cell that runs, and leaves a line in its place."""

    def __init__(self, display: Any) -> None:
        self._steps, self._drawn, self._start = Steps(), 0.0, time.monotonic()
        self._handle = display(_Bar("xxdeploy", 0.0), display_id=True)

    def __call__(self, progress: Progress) -> None:
        """Draw a report."""
        ended = self._steps.add(progress)
        if ended or time.monotonic() - self._drawn > _BEAT:
            self._draw(" · ".join(filter(None, (self._steps.title, self._steps.inner))), self._steps.share)

    def _draw(self, text: str, share: float | None) -> None:
        self._drawn = time.monotonic()
        if self._handle is not None:
            self._handle.update(_Bar(text, share))

    def __enter__(self) -> NotebookProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        steps, seconds = self._steps, time.monotonic() - self._start
        if kind is None:
            self._draw(f"{len(steps.lines)} steps in {seconds:.1f} s", None)
        else:
            self._draw(f"failed in {steps.title or 'the check of the options'} after {seconds:.1f} s", None)


class _Bar:
    """A bar with a text; without ``share`` (0..1) the text alone."""

    def __init__(self, text: str, share: float | None) -> None:
        self._text, self._share = text, share

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        bar = "" if self._share is None else f'<progress value="{self._share:.3f}" max="1"></progress> '
        return f"<div>{bar}{html.escape(self._text)}</div>"


def progress_view() -> PlainProgress | NotebookProgress:
    """Return the view for this process: a bar where IPython runs in a notebook, else lines."""
    display = _notebook_display()
    return PlainProgress() if display is None else NotebookProgress(display)


def _notebook_display() -> Any:
    """Return IPython's ``display`` if a notebook shows what it is given, else None. Nothing is imported for it."""
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # of the notebook's own process

    return display


def _write(line: str) -> None:
    """Write a line to stderr, which may be closed."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return
