"""Print errors. Standard library only, since an error may be that other libraries are missing."""

from __future__ import annotations

import json
import os
import sys
import textwrap


def printable(text: str) -> str:
    """Return ``text`` with control characters escaped.

    Messages and tables quote file names and labels from untrusted sources: their escape sequences must not reach the
    terminal. Line breaks stay.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def report_error(message: str, hint: str | None, *, code: str, as_json: bool) -> None:
    """Write an error to stderr: two lines for a person, or one JSON object."""
    if as_json:
        _write(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
        return
    head = f"error[{code}]:"
    text = _folded(f"{head} {printable(message)}", indent="  ")
    _write(f"\x1b[1;31m{head}\x1b[0m{text.removeprefix(head)}" if _color() else text)
    if hint is not None:
        _write(_folded(f" hint: {printable(hint)}", indent="       "))


def report_bug(error: Exception, trace: str, *, as_json: bool) -> None:
    """Write an unexpected exception to stderr, with its traceback."""
    message = f"{type(error).__name__}: {error}"
    hint = "this is a bug in xxdeploy: please report it with the traceback and the output of `xxdeploy doctor`"
    if as_json:
        _write(json.dumps({"error": {"code": "bug", "message": message, "hint": hint, "traceback": trace}}))
        return
    _write(printable(trace.rstrip()))
    report_error(message, hint, code="bug", as_json=False)


def _write(line: str) -> None:
    """Write a line to stderr; ignore that it is closed or full."""
    try:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the command line prints
    except (OSError, ValueError, AttributeError):
        return


def _folded(text: str, *, indent: str) -> str:
    """Break lines between words on a terminal; elsewhere leave them whole."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return text
    fold = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(fold.fill(line) for line in text.split("\n"))


def _color() -> bool:
    """Return whether stderr is a terminal that accepts color (https://no-color.org)."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
