"""``--quiet``, ``--verbose`` and ``--log-file``: how much a command says besides its results, and where."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from xxdeploy.errors import UsageError


@dataclass(frozen=True, slots=True)
class Verbosity:
    """``quiet`` leaves out progress, ``verbose`` adds details and the library's log; ``log`` is an open file."""

    quiet: bool = False
    verbose: bool = False
    log: TextIO | None = None

    def record(self, line: str) -> None:
        """Write a line with the time of day to the log file, if there is one. A full disk does not end the command."""
        if self.log is not None:
            with contextlib.suppress(OSError, ValueError):
                self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
                self.log.flush()


_DEFAULT = Verbosity()
_CURRENT: ContextVar[Verbosity] = ContextVar("verbosity", default=_DEFAULT)


def verbosity() -> Verbosity:
    """Return that of the command that runs."""
    return _CURRENT.get()


@contextlib.contextmanager
def chosen_verbosity(*, quiet: bool, verbose: bool, log_file: Path | None) -> Iterator[None]:
    """Apply the options to everything inside.

    ``UsageError``: ``quiet-and-verbose``; ``log-file``: the file cannot be written to.
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose are both given", hint="leave one of them out", code="quiet-and-verbose")
    with contextlib.ExitStack() as stack:
        log = None if log_file is None else stack.enter_context(_open(log_file))
        handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)] if verbose else []
        handlers += [logging.StreamHandler(log)] if log is not None else []
        for handler in handlers:
            stack.enter_context(_attached(handler))
        token = _CURRENT.set(Verbosity(quiet, verbose, log))
        stack.callback(_CURRENT.reset, token)
        yield


def _open(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(
            f"the log file {path} cannot be written: {error.strerror}",
            hint="give --log-file a file in a folder that exists",
            code="log-file",
        ) from error


@contextlib.contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    """Let ``handler`` get what xxdeploy logs."""
    logger = logging.getLogger("xxdeploy")
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
