from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

import xxdeploy.cli.app
from xxdeploy.cli import main
from xxdeploy.errors import (
    BundleError,
    ConversionError,
    EngineError,
    MissingDependencyError,
    UsageError,
    VerificationError,
    XXDeployError,
)

Capture = pytest.CaptureFixture[str]


def run_fake(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | int) -> None:
    """Make the next command return or raise ``outcome``."""

    def run(arguments: Sequence[str]) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(xxdeploy.cli.app, "run", run)


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (XXDeployError, 1),
        (UsageError, 2),
        (MissingDependencyError, 3),
        (ConversionError, 4),
        (EngineError, 5),
        (VerificationError, 6),
        (BundleError, 7),
    ],
)
def test_each_class_has_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, kind: type[XXDeployError], status: int
) -> None:
    run_fake(monkeypatch, kind("it is wrong", hint="do that", code="some-cause"))
    assert main(["export", "x"]) == status
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error[some-cause]: it is wrong\n hint: do that\n")


def test_success_and_the_status_of_a_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run_fake(monkeypatch, 0)
    assert main([]) == 0
    assert capsys.readouterr() == ("", "")


def test_json_errors_are_one_object_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run_fake(monkeypatch, UsageError("no \u201cname\u201d", hint="do\nthat", code="some-cause"))
    assert main(["models", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": {"code": "some-cause", "message": "no \u201cname\u201d", "hint": "do\nthat"}}


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run_fake(monkeypatch, KeyboardInterrupt())
    assert main(["export", "x"]) == 130
    assert capsys.readouterr() == ("", "error[interrupted]: stopped by Ctrl-C\n")


def test_a_bug_shows_its_traceback_and_asks_for_a_report(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run_fake(monkeypatch, ZeroDivisionError("oh"))
    assert main(["export", "x"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Traceback (most recent call last):")
    assert "error[bug]: ZeroDivisionError: oh\n hint: this is a bug in xxdeploy: please report it" in err
    assert main(["export", "x", "--json"]) == 1
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "bug"
    assert "ZeroDivisionError: oh" in error["traceback"]


def test_escape_sequences_of_others_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run_fake(monkeypatch, BundleError("label '\x1b[2J\x07'", hint="a\rb", code="c"))
    assert main([]) == 7
    assert capsys.readouterr().err == "error[c]: label '\\x1b[2J\\x07'\n hint: a\\rb\n"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


@pytest.mark.parametrize(("no_color", "head"), [("1", "error[c]:"), ("", "\x1b[1;31merror[c]:\x1b[0m")])
def test_a_terminal_gets_color_and_lines_folded_between_words(
    monkeypatch: pytest.MonkeyPatch, no_color: str, head: str
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((30, 24)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    run_fake(monkeypatch, UsageError("there are no weights for it", hint="sample|none|" + "x" * 40 + " or a", code="c"))
    assert main([]) == 2
    assert terminal.getvalue() == (
        f"{head} there are no weights\n  for it\n hint:\n       sample|none|{'x' * 40}\n       or a\n"
    )


def test_sigterm_unwinds_the_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = """
import os, signal, sys, xxdeploy.cli.app
from xxdeploy.cli import main
def run(arguments):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        print("cleaned up")
xxdeploy.cli.app.run = run
sys.exit(main([]))
"""
    done = python(code)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "cleaned up\n")
    assert done.stderr == "error[interrupted]: stopped by SIGTERM\n"


def test_the_signal_handler_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_fake(monkeypatch, 0)
    main([])
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_can_run_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    run_fake(monkeypatch, 0)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(main([])))
    thread.start()
    thread.join()
    assert statuses == [0]


def test_a_closed_pipe_is_no_error() -> None:
    code = """
import sys, time
from xxdeploy.cli import main
sys.stdin.read()  # until the reader is gone
sys.exit(main(["models"]))
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    child.stdin.close()
    error = child.stderr.read()
    child.stderr.close()
    assert (child.wait(timeout=60), error) == (141, "")


@pytest.mark.parametrize("library", ["cyclopts", "rich"])
def test_without_the_command_line_libraries_there_is_no_traceback(library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from xxdeploy.cli import main; sys.exit(main(['models']))"
    done = python(code)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("error[")
    assert library in done.stderr
    assert "pip install 'xxdeploy[edge]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_encoding_gets_a_question_mark() -> None:
    done = python("import sys; from xxdeploy.cli import main; sys.exit(main(['models']))", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "MobileNetV2" in done.stdout
    assert done.stdout.isascii()


def test_python_m_and_the_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xxdeploy", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{xxdeploy.__version__}\n", "")
