from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

import pytest

from xxdeploy.cli.progress import ProgressView
from xxdeploy.cli.verbosity import chosen_verbosity
from xxdeploy.results import Progress

Capture = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def seconds_removed(text: str) -> str:
    return re.sub(r"\(\d+\.\d s\)", "(T)", text)


def test_a_line_a_step_where_there_is_no_terminal(capsys: Capture) -> None:
    with ProgressView() as view:
        for done in range(4):
            view(Progress("calibrate", done, 3))
        view(Progress("convert", 0, 1))
        view(Progress("convert", 1, 1))
    out, err = capsys.readouterr()
    assert out == ""
    assert seconds_removed(err) == "calibrate 3 (T)\nconvert (T)\n"


def test_steps_of_the_command_are_numbered_and_steps_inside_are_indented(capsys: Capture) -> None:
    with ProgressView() as view:
        view(Progress("convert", 0, 1, (1, 2)))
        view(Progress("convert", 1, 1, (1, 2)))
        view(Progress("quantize", 0, 1, (2, 2)))
        view(Progress("calibrate", 3, 3))
        view(Progress("quantize", 1, 1, (2, 2)))
    assert seconds_removed(capsys.readouterr().err) == "[1/2] convert (T)\n  calibrate 3 (T)\n[2/2] quantize (T)\n"


def test_a_long_step_says_that_it_goes_on(capsys: Capture) -> None:
    with ProgressView(beat=0.05) as view:
        view(Progress("round weights", 1, 53))
        time.sleep(0.5)
        view(Progress("round weights", 53, 53))
    first, *_, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"round weights 1/53 \.\.\. \d+ s", first)
    assert last.startswith("round weights 53 (")


def test_quiet_says_nothing_and_the_log_has_every_line(capsys: Capture, tmp_path: Path) -> None:
    log = tmp_path / "export.log"
    with chosen_verbosity(quiet=True, verbose=False, log_file=log), ProgressView() as view:
        view(Progress("convert", 1, 1))
    assert capsys.readouterr() == ("", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d convert \(\d+\.\d s\)\n", log.read_text())


def test_steps_of_unknown_length_end_with_the_next_or_with_the_view(capsys: Capture) -> None:
    with ProgressView() as view:
        view(Progress("trace", 1))
        view(Progress("fold", 2))
        view(Progress("fold", 5))
    assert seconds_removed(capsys.readouterr().err) == "trace (T)\nfold 5 (T)\n"


def test_steps_may_take_turns(capsys: Capture) -> None:
    with ProgressView() as view:
        for done in (1, 2):
            view(Progress("keras", done, 2))
            view(Progress("onnx", done, 2))
    assert seconds_removed(capsys.readouterr().err) == "keras 2 (T)\nonnx 2 (T)\n"


def test_a_step_that_fails_is_not_called_done(capsys: Capture) -> None:
    def calibrate() -> None:
        with ProgressView() as view:
            view(Progress("calibrate", 1, 3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate()
    assert capsys.readouterr() == ("", "")


def test_json_is_silent_without_a_terminal(capsys: Capture) -> None:
    with ProgressView(as_json=True) as view:
        view(Progress("calibrate", 3, 3))
    assert capsys.readouterr() == ("", "")


def test_what_libraries_print_does_not_go_to_stdout(capsys: Capture) -> None:
    with ProgressView():
        sys.stdout.write("Downloading data from somewhere\n")
    assert capsys.readouterr() == ("", "Downloading data from somewhere\n")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with ProgressView(as_json=True) as view:
        view(Progress("calibrate", 1, 300))
        view(Progress("calibrate", 200, 300))
        view._bars.refresh()
        view(Progress("calibrate", 300, 300))
    text = terminal.getvalue()
    assert "200/300" in text
    assert "calibrate 300" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    with ProgressView() as view:
        view(Progress("calibrate", 1, 3))
        view._bars.refresh()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9](;|m)", terminal.getvalue())
