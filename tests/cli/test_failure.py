from __future__ import annotations

import json

import pytest

from xxdeploy.cli.failure import printable, report_bug, report_error

Capture = pytest.CaptureFixture[str]


def test_control_characters_are_escaped() -> None:
    assert printable("tab\there, line\nbreak, Ü, \u202e") == "tab\\there, line\nbreak, Ü, \\u202e"


def test_an_error_is_two_lines_or_one_object(capsys: Capture) -> None:
    report_error("wrong \x1b[31m", "do this", code="a-code", as_json=False)
    assert capsys.readouterr().err == "error[a-code]: wrong \\x1b[31m\n hint: do this\n"
    report_error("wrong", None, code="a-code", as_json=True)
    assert json.loads(capsys.readouterr().err) == {"error": {"code": "a-code", "message": "wrong", "hint": None}}


def test_a_bug_has_its_traceback(capsys: Capture) -> None:
    report_bug(ValueError("x"), "Traceback ...", as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Traceback ...", "error[bug]: ValueError: x"]
    report_bug(ValueError("x"), "Traceback ...", as_json=True)
    assert json.loads(capsys.readouterr().err)["error"]["traceback"] == "Traceback ..."
