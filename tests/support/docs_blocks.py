"""The fenced blocks of the documents, and which of them a test must run.

``python tests/support/docs_blocks.py`` lists the blocks of commands that no test runs, each with its reason.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
FENCE = re.compile(
    r"^(?P<before>[^\n]*)\n(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)\n(?P=indent)```$", re.DOTALL | re.MULTILINE
)
MARK = re.compile(r" *<!-- (?:not run: (?P<reason>.{10,})|run by: (?P<test>tests/[a-z0-9_/]+\.py)) -->")
"""Stands above a block that cannot be run in a test, or that another test runs."""
COMMAND = re.compile(r"^ *(?:\$ )?(?:xxdeploy|pip|pytest|python3?|docker|curl|npm|uvicorn) [a-z-]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text without the indent of a list, and whether no mark takes it out."""

    kind: str
    text: str
    runs: bool


def blocks(page: Path, *kinds: str) -> list[Block]:
    """Return the fenced blocks of these languages, in order; "" has no language."""
    return [
        Block(
            fence["kind"],
            re.sub(rf"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE),
            MARK.fullmatch(fence["before"]) is None,
        )
        for fence in FENCE.finditer(page.read_text(encoding="utf-8"))
        if fence["kind"] in kinds
    ]


def runs(page: Path) -> bool:
    """Return whether the page has commands that its own test runs."""
    return any(block.runs for block in blocks(page, "bash"))


def name(page: Path) -> str:
    """Return the name of a page in the output of tests."""
    return page.relative_to(ROOT).as_posix()


def not_run() -> list[str]:
    """Return a line for each block of commands that no test runs: the page, its first command, the reason."""
    fences = ((page, fence) for page in PAGES for fence in FENCE.finditer(page.read_text(encoding="utf-8")))
    marked = ((page, fence, MARK.fullmatch(fence["before"])) for page, fence in fences if fence["kind"] != "python")
    return [
        f"{name(page)}: {fence['text'].strip().splitlines()[0].strip()}  ({mark['reason']})"
        for page, fence, mark in marked
        if mark is not None and mark["reason"]
    ]


TUTORIALS = tuple(sorted((DOCS / "tutorials").glob("*.md")))
GUIDES = tuple(page for page in sorted((DOCS / "how-to").glob("*.md")) if runs(page))


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in not_run()))
