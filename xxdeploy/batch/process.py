"""One cell in a process of its own: started, watched, ended when it takes too much memory or too long.

The limit is held by looking at resident memory: ``RLIMIT_AS`` counts address space, of which TensorFlow reserves far
more than it uses. Where there is no ``/proc`` (macOS, Windows) memory is not watched.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxdeploy.batch.jobs import Cell
from xxdeploy.files import child_python

_CHILD = """
import os, runpy, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: nobody works on for a parent that was killed
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)
runpy.run_module("xxdeploy", run_name="__main__", alter_sys=True)
"""
COMMAND = ("-c", _CHILD, "{parent}")
"""Python's arguments before those of a cell; ``{parent}`` becomes the number of the process that waits for it."""

_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_MOST_OUTPUT = 10_000_000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. ``error`` (code, message, hint) is None if it succeeded; ``document`` is its JSON."""

    status: int
    seconds: float
    peak_bytes: int | None
    document: Mapping[str, Any] | None
    error: Mapping[str, str] | None


class Running:
    """A cell's process. ``poll`` is to be called often: it is what holds the limits."""

    def __init__(
        self, cell: Cell, out: Path, logs: Path, *, memory: int, timeout: float, command: tuple[str, ...] = COMMAND
    ) -> None:
        self.cell = cell
        self.memory = memory
        self._timeout = timeout
        self._files = logs / f"{cell.name}.out", logs / f"{cell.name}.log"
        self._peak: int | None = None
        self._stopped: tuple[str, str, str] | None = None
        self._deadline = float("inf")
        self._start = time.monotonic()
        logs.mkdir(parents=True, exist_ok=True)
        words = [word.format(parent=os.getpid()) if word == "{parent}" else word for word in command]
        python, environment = child_python(*words, *cell.arguments(out))
        with self._files[0].open("wb") as output, self._files[1].open("wb") as log:
            self._process = subprocess.Popen(
                python,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    def poll(self) -> Ended | None:
        """Return how it ended, None while it runs; stop it when it is over its limits."""
        status = self._process.poll()
        seconds = time.monotonic() - self._start
        if status is not None:
            self._signal("SIGKILL")  # what it may have started itself
            return self._ended(status, seconds)
        used = resident(self._process.pid)
        if used is not None:
            self._peak = max(self._peak or 0, used)
        if self._stopped is None and used is not None and used > self.memory:
            message = f"it took {used / 1e9:.1f} GB, more than the {self.memory / 1e9:.1f} GB it was given"
            self._stop(message, code="memory-limit", hint="--memory-per-cell GB gives each more, if the machine has it")
        elif self._stopped is None and seconds > self._timeout:
            message = f"it was not done after {self._timeout:.0f} s"
            self._stop(message, code="timeout", hint="--timeout SECONDS gives it longer")
        elif time.monotonic() > self._deadline:
            self._signal("SIGKILL")
        return None

    def stop(self) -> None:
        """End it and wait: it first removes what it had half made, and is killed if that takes long."""
        self._signal("SIGTERM")
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal("SIGKILL")
            self._process.wait()
        self._signal("SIGKILL")

    def _stop(self, message: str, *, code: str, hint: str) -> None:
        self._stopped = code, message, hint
        # Memory that is growing leaves no time to be polite.
        self._deadline = time.monotonic() + (_GRACE_SECONDS if code == "timeout" else 1.0)
        self._signal("SIGTERM")

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self._process.pid, getattr(signal, name))
            elif self._process.poll() is None:
                self._process.terminate()

    def _ended(self, status: int, seconds: float) -> Ended:
        document, error = None, None
        if self._stopped is not None:
            code, message, hint = self._stopped
            error = {"code": code, "message": message, "hint": hint}
        elif status == 0:
            document = _json_of(_read(self._files[0]))
            if document is None:
                error = _error("it ended without a result", self._files[1], code="no-result")
        else:
            error = _reported(self._files[1]) or _error(_how(status), self._files[1], code="crashed")
        return Ended(status, seconds, self._peak, document, error)


def run_cell(
    cell: Cell, out: Path, logs: Path, *, memory: int, timeout: float, command: tuple[str, ...] = COMMAND
) -> Ended:
    """Run one cell to its end, within its limits."""
    running = Running(cell, out, logs, memory=memory, timeout=timeout, command=command)
    return wait(running.poll, running.stop)


def wait(poll: Callable[[], Ended | None], stop: Callable[[], None]) -> Ended:
    """Poll until it has ended; whatever interrupts this ends it."""
    try:
        while (ended := poll()) is None:
            time.sleep(_POLL_SECONDS)
    except BaseException:
        stop()
        raise
    return ended


def resident(session: int) -> int | None:
    """Return the resident bytes of all processes of a session, None where the system does not tell."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        return None
    pages = 0
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # After the name, which may hold spaces and brackets: state ppid pgrp session ...; rss is the 22nd.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _MOST_OUTPUT))
        return file.read().decode(errors="replace")


def _json_of(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _reported(log: Path) -> dict[str, str] | None:
    """Return the error that ``--json`` wrote as the last line of stderr, behind what libraries wrote."""
    for line in reversed(_read(log).splitlines()):
        value = _json_of(line) if line.startswith("{") else None
        error = value.get("error") if value else None
        if isinstance(error, dict):
            return {key: str(error.get(key) or "") for key in ("code", "message", "hint")}
    return None


def _error(message: str, log: Path, *, code: str) -> dict[str, str]:
    last = next((line.strip() for line in reversed(_read(log).splitlines()) if line.strip()), "")
    return {"code": code, "message": f"{message}: {last[:300]}" if last else message, "hint": f"see {log}"}


def _how(status: int) -> str:
    if status >= 0:
        return f"it ended with status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"
