"""Every command in the documents runs, or its page says why not; links and paths of files lead somewhere."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App, Parameter
from docs_blocks import COMMAND, GUIDES, MARK, PAGES, ROOT, TUTORIALS, blocks, name

from xxdeploy.cli import main
from xxdeploy.cli.app import COMMANDS


@pytest.mark.parametrize("page", TUTORIALS, ids=name)
def test_a_tutorial_works_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for block in blocks(page, "bash", "python"):
        if not block.runs:
            continue
        ran += 1
        if block.kind == "python":
            (tmp_path / "block.py").write_text(block.text)
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [sys.executable, "block.py"], env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "xxdeploy", f"{page.name} runs {words[0]}: say why it is not run"
            assert main(words[1:]) == 0, line
    assert ran


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_elsewhere_say_why_they_are_not_run(page: Path) -> None:
    if page in (*TUTORIALS, *GUIDES):
        return
    for block in blocks(page, "bash", "sh", "console"):
        assert not block.runs, f"{page.name}: say before this block why it is not run here:\n{block.text}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_test_that_runs_a_block_exists(page: Path) -> None:
    tests = [found["test"] for found in MARK.finditer(page.read_text(encoding="utf-8")) if found["test"]]
    assert [test for test in tests if not (ROOT / test).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_block_of_commands_is_marked_as_such(page: Path) -> None:
    """A block without a language is text: commands in it would escape the tests above."""
    found = [block.text for block in blocks(page, "", "text") if COMMAND.search(block.text)]
    assert page.name == "api.md" or found == []


@functools.cache
def options_of(command: str) -> frozenset[str]:
    """Return the options of a command, as its help shows them."""
    app = App(default_parameter=Parameter(negative=""))
    app.default(COMMANDS[command][0])
    arguments = app.assemble_argument_collection(parse_docstring=True)
    return frozenset(option for argument in arguments for option in argument.names) | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_that_are_not_run_have_options_that_exist(page: Path) -> None:
    for block in blocks(page, "bash", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if not (found := re.search(r"(?:^|[ /])xxdeploy ([a-z]+)\b(.*)", line.partition(" #")[0])):
                continue
            command, rest = found[1], found[2]
            assert command in COMMANDS, line
            given = {word.partition("=")[0] for word in rest.split() if word.startswith("--")}
            assert given - options_of(command) == set(), line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_are_python_and_their_imports_exist(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "xxdeploy":
                home = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(home, alias.name)] == [], block.text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} leads to {target}"


PATH = re.compile(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.(?:py|toml|md))`")
PLACEHOLDERS = {"xxdeploy/a/b.py", "tests/a/test_b.py"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page: Path) -> None:
    """A path in backticks is relative to the repository, to ``xxdeploy/`` or to ``tests/``."""
    names = set(PATH.findall(page.read_text(encoding="utf-8"))) - PLACEHOLDERS
    bases = (ROOT, ROOT / "xxdeploy", ROOT / "tests", page.parent)
    assert [name for name in sorted(names) if not any((base / name).exists() for base in bases)] == []


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "docs" / "contributing" / "architecture.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "xxdeploy").glob("*/__init__.py")]
    assert [name for name in sorted(packages) if f"`{name}/`" not in text] == []
