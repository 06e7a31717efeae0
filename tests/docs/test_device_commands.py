"""Device commands of the documents run without the exporter; without any extra, every command names a pip line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle
from docs_blocks import PAGES, ROOT
from PIL import Image

from xxdeploy.bundle.pack import pack
from xxdeploy.cli.app import COMMANDS

DEVICE = ("predict", "verify", "tune", "bench", "doctor")
OTHER_EXTRAS = {"--key": "sign", "--cluster": "cluster", "--engine": "openvino"}
EXPORTER = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "h5py",
    "jinja2",
    "psutil",
    "distributed",
    "cryptography",
    "openvino",
)
COMMAND_LINE = ("cyclopts", "rich", "numpy", "PIL", "onnxruntime")


def device_commands() -> list[list[str]]:
    """Return the commands in the documents that run on a device with the extra ``edge`` alone, each once."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    lines = re.findall(rf"^ *(xxdeploy (?:{'|'.join(DEVICE)})\b.*)$", text, re.MULTILINE)
    model_file = re.compile(r"\.(?:h5|keras|json)\b")  # `doctor MODEL` reads it with the exporter's libraries
    # Bundles that make pictures or take several inputs: tests/exporter/test_picture_tasks.py, test_several_inputs.py.
    others = (*OTHER_EXTRAS, "--out", "--input")
    given = {line for line in lines if not any(word in line for word in others) and not model_file.search(line)}
    return [list(words) for words in sorted({tuple(here(line)) for line in given})]


def here(line: str) -> list[str]:
    """Return the words of a line with the files of the test, and a budget of a second."""
    line = re.sub(r"exports/[\w-]+", "bundle", re.sub(r"[\w/-]+\.(?:jpg|png)", "photo.png", line))
    return shlex.split(re.sub(r"--budget \d+", "--budget 1", line), comments=True)[1:]


def without(modules: tuple[str, ...], commands: list[list[str]], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands in one process in which ``modules`` cannot be imported; print the status of each."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({modules!r}))
from xxdeploy.cli import main
for words in {commands!r}:
    print("status", main(words), *words, flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_bundle.make(tmp_path / "bundle")
    Image.new("RGB", (20, 16), (200, 30, 90)).save(tmp_path / "photo.png")
    for label in tiny_bundle.LABELS:
        (tmp_path / "val" / label).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "val" / label / "0.png")
    return tmp_path


def test_the_device_commands_of_the_documents_need_no_exporter(folder: Path) -> None:
    commands = device_commands()
    assert {words[0] for words in commands} == set(DEVICE)
    done = without(EXPORTER, commands, folder)
    statuses = re.findall(r"^status (\d+) (.*)$", done.stdout, re.MULTILINE)
    assert len(statuses) == len(commands), done.stderr
    assert [words for status, words in statuses if status != "0"] == [], done.stderr


def test_reports_on_a_device(folder: Path) -> None:
    """A bundle brings its page; a page that is rendered needs the extra that the error names."""
    tiny_bundle.make(folder / "other")
    parts, manifest = tiny_bundle.parts_and_manifest()
    pack(manifest, {**parts, "report.html": b"<html></html>"}, folder / "whole")
    commands = [["report", "whole"], ["report", "bundle"], ["report", "bundle", "other"]]
    done = without(EXPORTER, commands, folder)
    assert re.findall(r"^status (\d+)", done.stdout, re.MULTILINE) == ["0", "3", "3"], done.stderr
    assert done.stdout.startswith("open file://")
    assert done.stderr.count(" hint: pip install 'xxdeploy[report]'") == 2


def test_without_any_extra_each_command_says_which_one_to_install(folder: Path) -> None:
    done = without(COMMAND_LINE, [[name, "bundle"] for name in COMMANDS] + [["--help"]], folder)
    assert re.findall(r"^status (\d+)", done.stdout, re.MULTILINE) == ["3"] * (len(COMMANDS) + 1)
    hints = dict(zip([*COMMANDS, "--help"], re.findall(r"^ hint: (.*)$", done.stderr, re.MULTILINE), strict=True))
    assert done.stderr.count("error[missing-dependency]: ") == len(hints)
    assert {hints[name] for name in DEVICE} == {"pip install 'xxdeploy[edge]'"}
    assert hints["export"] == "pip install 'xxdeploy[export]'"
    assert hints["report"] == "pip install 'xxdeploy[edge,report]'"
    assert hints["sign"] == "pip install 'xxdeploy[cli,sign]'"
    assert hints["--help"] == "on a device: pip install 'xxdeploy[edge]'; to export: pip install 'xxdeploy[export]'"
