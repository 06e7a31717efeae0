"""The command line: it parses and prints, nothing more. The only home of cyclopts and rich.

`main` imports neither, so an installation without any extra gets an error with the pip command.

Results go to stdout, all other output to stderr. With ``--json`` stdout has one JSON document, or, if a command fails,
stderr has one object ``{"error": {...}}``. The exit status is that of the error's class (`xxdeploy.errors`), 1 for a
bug, and 128 plus the number of the signal that ended the command: 130 for Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from xxdeploy.cli.failure import report_bug, report_error
from xxdeploy.errors import MissingDependencyError, XXDeployError
from xxdeploy.optional import extra

_DEVICE = ("predict", "verify", "tune", "bench", "doctor", "inspect", "models", "example", "cache")
_WORKSTATION = ("export", "build")
_INSTALL = {
    **dict.fromkeys(_DEVICE, "pip install 'xxdeploy[edge]'"),
    **dict.fromkeys(_WORKSTATION, "pip install 'xxdeploy[export]'"),
    "report": "pip install 'xxdeploy[edge,report]'",
    **dict.fromkeys(("keygen", "sign"), "pip install 'xxdeploy[cli,sign]'"),
}
"""The pip line of each command, where not even the libraries of the command line are installed."""
_BROKEN_PIPE = 128 + 13  # SIGPIPE, which Windows does not define


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command (default: the arguments of the process) and return its exit status. Never raises."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = any(word == "--json" or word.startswith("--json=") for word in arguments)
    try:
        with _signals_as_exits(), _any_encoding():
            status = _app(arguments)(arguments)
            sys.stdout.flush()  # raises BrokenPipeError here, not at the interpreter's exit
            return status
    except XXDeployError as error:
        report_error(error.message, error.hint, code=error.code, as_json=as_json)
        return error.exit_status
    except KeyboardInterrupt:
        report_error("stopped by Ctrl-C", None, code="interrupted", as_json=as_json)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # `xxdeploy models | head -1` is not an error. Without the next line the interpreter would flush stdout at its
        # exit, and print an error.
        with suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return _BROKEN_PIPE
    except SystemExit as stop:
        if stop.code == 128 + signal.SIGTERM:
            report_error("stopped by SIGTERM", None, code="interrupted", as_json=as_json)
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:  # noqa: BLE001 - the last stop before the user
        report_bug(error, traceback.format_exc(), as_json=as_json)
        return 1


def _app(arguments: Sequence[str]) -> Callable[[Sequence[str]], int]:
    """Return the function that runs a command.

    ``MissingDependencyError``: without cyclopts and rich, with the extra that ``arguments`` need.
    """
    try:
        with extra("cli"):
            from xxdeploy.cli.app import run
    except MissingDependencyError as error:
        if error.code != "missing-dependency":
            raise
        command = next((word for word in arguments if not word.startswith("-")), None)
        both = f"on a device: {_INSTALL['predict']}; to export: {_INSTALL['export']}"
        hint = _INSTALL.get(command or "", both)
        raise MissingDependencyError(error.message, hint=hint, code=error.code) from error
    return run


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so steps remove their temporary files."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _any_encoding() -> Iterator[None]:
    """Print ``?`` for characters that stdout's encoding lacks, such as a label in a Latin-1 locale."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    errors = getattr(sys.stdout, "errors", None)
    if reconfigure is None or errors != "strict":
        yield
        return
    reconfigure(errors="replace")
    try:
        yield
    finally:
        reconfigure(errors=errors)
