"""One job in a process of its own: started, watched, and ended when it takes too much memory or too long.

The memory limit is checked against resident memory: ``RLIMIT_AS`` counts address space, of which TensorFlow reserves
far more than it uses.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from xxdeploy.batch.jobs import Job
from xxdeploy.errors import XXDeployError
from xxdeploy.files import child_python

_CHILD = """
import os, runpy, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: this process ends with its parent
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)
runpy.run_module("xxdeploy", run_name="__main__", alter_sys=True)
"""
COMMAND = ("-c", _CHILD, "{parent}")
"""Python's arguments before those of a job; ``{parent}`` becomes the number of the process that waits for it."""

POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0
_MOST_OUTPUT = 10_000_000


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a process.

    ``error`` (code, message, hint) is None if it succeeded; ``document`` is the JSON that it printed; ``peak_bytes``
    the largest resident memory that was seen, None if it ended before the first look.
    """

    status: int
    seconds: float
    peak_bytes: int | None
    document: Mapping[str, Any] | None
    error: Mapping[str, str] | None


class Running:
    """A job's process, limited to ``memory`` bytes and ``timeout`` seconds. ``poll`` enforces both: call it often.

    ``logs/NAME.out`` and ``logs/NAME.log`` are its stdout and stderr. After a request to end it has ``grace`` seconds.
    """

    def __init__(
        self,
        job: Job,
        out: Path,
        logs: Path,
        *,
        memory: int,
        timeout: float,
        command: tuple[str, ...] = COMMAND,
        grace: float = _GRACE_SECONDS,
    ) -> None:
        self.job, self.memory = job, memory
        self._timeout, self._grace = timeout, grace
        self._output, self._log = logs / f"{job.name}.out", logs / f"{job.name}.log"
        self._peak: int | None = None
        self._stopped: dict[str, str] | None = None
        self._deadline = float("inf")
        self._start = time.monotonic()
        logs.mkdir(parents=True, exist_ok=True)
        words = [word.format(parent=os.getpid()) if word == "{parent}" else word for word in command]
        python, environment = child_python(*words, *job.arguments(out))
        with self._output.open("wb") as output, self._log.open("wb") as log:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": log}
            self._process = subprocess.Popen(python, env=environment, start_new_session=True, **streams)

    def poll(self) -> Ended | None:
        """Return how the process ended, None while it runs; stop it if it is over its limits."""
        status = self._process.poll()
        seconds = time.monotonic() - self._start
        if status is not None:
            self._signal("SIGKILL")  # processes that it left
            return self._ended(status, seconds)
        used = resident(self._process.pid)
        if used is not None:
            self._peak = max(self._peak or 0, used)
        if self._stopped is None and used is not None and used > self.memory:
            message = f"it took {used / 1e9:.1f} GB, more than its limit of {self.memory / 1e9:.1f} GB"
            hint = "--memory-per-cell GB gives each job more, if the machine has it"
            # Memory that grows may be exhausted within the usual grace.
            self._stop(message, hint, code="memory-limit", grace=min(1.0, self._grace))
        elif self._stopped is None and seconds > self._timeout:
            message = f"it was not done after {self._timeout:.0f} s"
            self._stop(message, "--timeout SECONDS gives it longer", code="timeout", grace=self._grace)
        elif time.monotonic() > self._deadline:
            self._signal("SIGKILL")
        return None

    def wait(self) -> Ended:
        """Poll until the process has ended; an exception meanwhile ends it."""
        try:
            while (ended := self.poll()) is None:
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.stop()
            raise
        return ended

    def stop(self) -> None:
        """End the process and wait for it: it removes what is half made, and is killed if that takes too long."""
        self._signal("SIGTERM")
        try:
            self._process.wait(self._grace)
        except subprocess.TimeoutExpired:
            self._signal("SIGKILL")
            self._process.wait()
        self._signal("SIGKILL")

    def _stop(self, message: str, hint: str, *, code: str, grace: float) -> None:
        self._stopped = {"code": code, "message": message, "hint": hint}
        self._deadline = time.monotonic() + grace
        self._signal("SIGTERM")

    def _signal(self, name: str) -> None:
        """Signal all processes of the job; on Windows, which has no signals, end them."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self._process.pid, getattr(signal, name))
            else:
                for process in _tree(self._process.pid):
                    process.kill()

    def _ended(self, status: int, seconds: float) -> Ended:
        document, error = None, self._stopped
        if error is None and status == 0:
            document = _json_of(_read(self._output))
            if document is None:
                error = _error("it ended without a result", self._log, code="no-result")
        elif error is None:
            error = _reported(self._log) or _error(_how(status), self._log, code="crashed")
        return Ended(status, seconds, self._peak, document, error)


def document_of(error: XXDeployError) -> dict[str, str]:
    """Return an error as a record holds it."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def resident(process: int) -> int | None:
    """Return the resident bytes of a process and its descendants, None if it is gone."""
    sizes = []
    for member in _tree(process):
        with contextlib.suppress(psutil.Error):
            sizes.append(int(member.memory_info().rss))
    return sum(sizes) if sizes else None


def _tree(process: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(process)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


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
    """Return the error that ``--json`` wrote as the last JSON line of stderr, after the words of libraries."""
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
