from __future__ import annotations

import json
from pathlib import Path

import pytest

from xxdeploy.cli import main
from xxdeploy.files import CACHE_VARIABLE

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    for name in (f"tuned/{'a' * 32}.json", "openvino/1.blob", "openvino/2.blob"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(1000))
    return folder


def test_the_parts_are_shown_and_removed(root: Path, capsys: Capture) -> None:
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["openvino", "models", "that", "OpenVINO", "compiled", "2", "0.0"] for line in lines)
    assert lines[-1] == f"{root}: 3.0 kB, limit 2000.0 MB"
    assert main(["cache", "clear", "--to-mb", "0.002"]) == 0
    assert capsys.readouterr().out.startswith("removed 1 files, 1.0 kB")
    assert main(["cache", "clear"]) == 0
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_json(capsys: Capture) -> None:
    assert main(["cache", "clear", "--part", "openvino", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["removed"] == {"files": 2, "size": 2000, "kept": 0}
    assert {part["name"]: part["bytes"] for part in document["parts"]} == {
        "calibration": 0, "engines": 0, "openvino": 0, "tuned": 1000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--part", "x"], "cache-part"),
        (["--to-mb", "5"], "cache-limit"),
        (["clear", "--to-mb=-1"], "cache-limit"),
        (["clear", "--to-mb", "inf"], "cache-limit"),
    ],
)
def test_wrong_requests(words: list[str], code: str, root: Path, capsys: Capture) -> None:
    assert main(["cache", *words]) == 2
    assert f"error[{code}]" in capsys.readouterr().err
    assert len([path for path in root.rglob("*") if path.is_file()]) == 3
