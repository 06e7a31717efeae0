from __future__ import annotations

import json

import pytest

from xxdeploy.cli import main
from xxdeploy.cli.app import COMMANDS

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("line", "code", "message", "hint"),
    [
        ("modls", "unknown-command", "there is no command 'modls'", "did you mean `xxdeploy models`?"),
        (
            "zzz",
            "unknown-command",
            "there is no command 'zzz'",
            f"the commands are {', '.join(COMMANDS)}",
        ),
        ("export m --int9", "unknown-option", "unknown option --int9", "did you mean --int8?"),
        ("export m --smaples 3", "unknown-option", "unknown option --smaples", "did you mean --samples?"),
        (
            "export m --zzzz",
            "unknown-option",
            "unknown option --zzzz",
            "`xxdeploy export --help` shows how it is used",
        ),
        (
            "serve b --forse",  # --port is near only by its dashes
            "unknown-option",
            "unknown option --forse",
            "`xxdeploy serve --help` shows how it is used",
        ),
        ("export m --forse", "unknown-option", "unknown option --forse", "did you mean --force?"),
        (
            "export",
            "missing-argument",
            "`xxdeploy export` needs MODEL",
            "`xxdeploy export --help` shows how it is used",
        ),
        (
            "predict bundle",
            "missing-argument",
            "`xxdeploy predict` needs IMAGES",
            "`xxdeploy predict --help` shows how it is used",
        ),
        (
            "export m --samples",
            "missing-argument",
            "--samples needs a value",
            "`xxdeploy export --help` shows how it is used",
        ),
        (
            "verify m n",
            "extra-argument",
            "`xxdeploy verify` does not take the argument 'n'",
            "`xxdeploy verify --help` shows how it is used",
        ),
        ("export m --samples 3 --samples 4", "repeated-option", "--samples is given twice", "leave one out"),
        (
            "export m --samples many",
            "bad-value",
            'invalid value for --samples: unable to convert "many" into int',
            "`xxdeploy export --help` shows how it is used",
        ),
        (
            "export m --resize sqash",
            "bad-value",
            'invalid value "sqash" for --resize. Choose from: "squash", "crop", "fit", "pad"',
            "did you mean squash?",
        ),
    ],
)
def test_parse_errors_look_like_all_others(capsys: Capture, line: str, code: str, message: str, hint: str) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error[{code}]: {message}\n hint: {hint}\n")


def test_parse_errors_as_json(capsys: Capture) -> None:
    assert main(["export", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == "missing-argument"


OPTIONS = {
    "models": ("--json",),
    "export": (
        *("--int8", "--weights", "--calibration", "--alpha", "--input-size", "--classes", "--no-top", "--pooling"),
        *("--labels", "--preprocess", "--resize", "--force", "--samples", "--method", "--seed", "--eval", "--max-drop"),
        *("--keep-fp32", "--max-latency-ms", "--max-size-mb", "--max-memory-mb"),
        *("--out", "--json"),
    ),
    "verify": ("--eval", "--json"),
    "predict": ("--top", "--json"),
    "bench": ("--engine", "--threads", "--rounds", "--untuned", "--json"),
    "tune": ("--budget", "--key", "--json"),
    "build": ("--gpu", "--batch", "--json"),
    "inspect": (
        *("--sensitivity", "--calibration", "--samples", "--method", "--preprocess", "--resize", "--top", "--json"),
    ),
    "doctor": ("--json",),
}


@pytest.mark.parametrize("command", OPTIONS)
@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_help_shows_each_option_and_an_example(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: str, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for option in OPTIONS[command]:
        assert f" {option} " in out
    assert "Example" in out
    assert f"xxdeploy {command}" in out.split("Example")[1]
    assert max(len(line) for line in out.splitlines()) <= int(columns)


def test_help_fills_the_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    assert "runs with the settings of `xxdeploy tune` on this device, or with the defaults." in out
    assert "  xxdeploy bench exports/mobilenetv2-int8\n  xxdeploy bench" in out
    assert "Timed runs of each bundle. [default: 50]" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_no_default_that_is_off_or_empty(capsys: Capture, command: str) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert not [value for value in ("False", "()", '""', "None") if f"[default: {value}]" in out]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_command_there_is_help(capsys: Capture, arguments: list[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for command in OPTIONS:
        assert f"│ {command} " in out
