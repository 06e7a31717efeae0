from __future__ import annotations

import logging
from pathlib import Path

import pytest

from xxdeploy.cli import main
from xxdeploy.cli.verbosity import chosen_verbosity, verbosity
from xxdeploy.errors import UsageError

Capture = pytest.CaptureFixture[str]


def test_the_options_hold_inside_and_end_with_the_command() -> None:
    with chosen_verbosity(quiet=True, verbose=False, log_file=None):
        assert verbosity().quiet
    assert not verbosity().quiet


def test_verbose_shows_what_the_library_logs(capsys: Capture, tmp_path: Path) -> None:
    logger = logging.getLogger("xxdeploy.quantize")
    with chosen_verbosity(quiet=False, verbose=True, log_file=tmp_path / "all.log"):
        logger.debug("bias of conv1: mean shift 0.1")
    logger.debug("after")
    assert capsys.readouterr().err == "xxdeploy.quantize: bias of conv1: mean shift 0.1\n"
    assert (tmp_path / "all.log").read_text() == "xxdeploy.quantize: bias of conv1: mean shift 0.1\n"


def test_a_log_file_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "all.log"):
        with pytest.raises(UsageError) as caught, chosen_verbosity(quiet=False, verbose=False, log_file=path):
            pass
        assert caught.value.code == "log-file"


@pytest.mark.parametrize("words", [["models", "-q", "-v"], ["-v", "models", "--quiet"]])
def test_quiet_and_verbose_exclude_each_other_anywhere_on_the_line(words: list[str], capsys: Capture) -> None:
    assert main(words) == 2
    assert "error[quiet-and-verbose]" in capsys.readouterr().err
