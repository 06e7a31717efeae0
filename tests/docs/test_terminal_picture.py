"""The picture of a terminal in the README shows the README's own command and the run whose table stands there."""

from __future__ import annotations

import html
import re

import make_pictures
from docs_blocks import ROOT, blocks


def shown() -> list[str]:
    """Return the letters of each line of the picture, from top to bottom; blanks are positions there."""
    svg = make_pictures.PICTURE.read_text(encoding="utf-8")
    lines: dict[float, str] = {}
    for match in re.finditer(r"<text [^>]*y=\"([\d.]+)\"[^>]*clip-path[^>]*>(.*?)</text>", svg):
        lines[float(match[1])] = lines.get(float(match[1]), "") + html.unescape(match[2])
    return [letters(text) for _, text in sorted(lines.items())]


def letters(line: str) -> str:
    return "".join(line.split())


def test_the_picture_and_the_readme_show_one_run() -> None:
    readme = ROOT / "README.md"
    commands = [block.text for block in blocks(readme, "bash")]
    picture = shown()
    assert picture[0] == letters(f"$ {make_pictures.COMMAND}")
    assert commands[0].endswith(f"/{make_pictures.COMMAND}")
    table = next(block.text for block in blocks(readme, "") if "p50 ms" in block.text).splitlines()
    assert len(table) > 4
    assert picture[1 : 1 + len(table)] == [letters(line) for line in table]


def test_the_picture_loads_nothing() -> None:
    svg = make_pictures.PICTURE.read_text(encoding="utf-8")
    assert not re.search(r"url\(\s*[\"']?(?!#)|<image|<script|@import|href=\"(?!#)", svg)
