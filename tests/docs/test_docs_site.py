"""The hook of MkDocs: links to files outside ``docs/`` become links inside the site."""

from __future__ import annotations

from pathlib import Path

import docs_site
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("docs/how-to/ci.md", "../reference/errors.md#exit", "../reference/errors.md#exit"),
        ("docs/how-to/ci.md", "../../CONTRIBUTING.md", "../repository/CONTRIBUTING.md"),
        ("docs/index.md", "../examples/camera_loop.py", "repository/examples/camera_loop.py"),
        ("CONTRIBUTING.md", "docs/index.md", "../index.md"),
        ("exports/results/README.md", "../README.md", "../README.md"),
        ("docs/index.md", "no-such-page.md", "no-such-page.md"),
        ("docs/index.md", "../../../etc/hostname", "../../../etc/hostname"),
    ],
)
def test_links_lead_to_files_of_the_site(page: str, link: str, expected: str) -> None:
    assert docs_site.rewritten(f"[a]({link})", ROOT / page, DOCS) == f"[a]({expected})"


@pytest.mark.parametrize(
    ("html", "loads"),
    [
        ('<script src="https://cdn.example/a.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', True),
        ("<style>@font-face { src: url(https://fonts.example/a) }</style>", True),
        ('<script src="assets/a.js"></script><link rel="stylesheet" href="a.css">', False),
        ('<a href="https://arxiv.org/abs/1906.04721">', False),
        ('<link rel="canonical" href="https://docs.example/">', False),
    ],
)
def test_a_page_that_asks_another_host_is_found(html: str, loads: bool) -> None:
    assert (docs_site.LOADED.search(html) is not None) is loads


def test_pipes_in_the_code_of_tables_lose_their_backslash() -> None:
    text = "| `--cpu vnni\\|arm` | a \\| b |\n`x \\| y`\n"
    assert docs_site.rewritten(text, DOCS / "index.md", DOCS) == "| `--cpu vnni|arm` | a \\| b |\n`x \\| y`\n"


def test_code_blocks_stay() -> None:
    text = "```\n[a](../CONTRIBUTING.md)\n```\n[b](../CONTRIBUTING.md)\n"
    expected = "```\n[a](../CONTRIBUTING.md)\n```\n[b](repository/CONTRIBUTING.md)\n"
    assert docs_site.rewritten(text, DOCS / "index.md", DOCS) == expected


def test_files_that_pages_lead_to_are_found_through_each_other(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    assert docs_site.linked_outside([page], DOCS) == []
    found = docs_site.linked_outside([DOCS / "contributing" / "architecture.md"], DOCS)
    assert ROOT / "CONTRIBUTING.md" in found
    assert ROOT / "README.md" in found
    assert not [path for path in found if path.is_relative_to(DOCS)]
