"""A hook of MkDocs: pages link to files of the repository as on a code host, and the site brings these files along.

A link from ``docs/how-to/ci.md`` to ``../../CONTRIBUTING.md`` leads outside ``docs/``, where MkDocs has no pages. Each
such file becomes a page (Markdown) or a file of the site, below ``repository/``, and links are rewritten to it.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<=\]\()(?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
CODE = re.compile(r"`[^`\n]+`")
TABLE_ROW = re.compile(r"^\|.*$", re.MULTILINE)
FENCE = re.compile(r"^(?P<fence> *```).*?^ *```[ ]*$", re.DOTALL | re.MULTILINE)


LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=\"?(?:https?:)?//"
    r"|<link\b(?![^>]*\brel=\"?(?:canonical|prev|next))[^>]*\bhref=\"?(?:https?:)?//|url\([\"']?(?:https?:)?//"
)
"""What makes a browser ask another host while it shows a page; links, which wait for a click, do not."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside ``docs/`` to which a page leads, and those to which these lead."""
    pages = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    for path in linked_outside(pages, Path(config.docs_dir)):
        uri = site_uri(path, Path(config.docs_dir))
        level = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Return the page with links that MkDocs resolves: relative, between files of the site."""
    assert page.file.abs_src_path is not None
    return rewritten(markdown, Path(page.file.abs_src_path), Path(config.docs_dir))


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Return the page as it is; ``PluginError`` if it would load something from another host."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads a file from another host: {output[found.start() :][:120]}")
    return output


def linked_outside(pages: list[Path], docs: Path) -> list[Path]:
    """Return the files of the repository outside ``docs`` that ``pages`` lead to, directly or through each other."""
    found: list[Path] = []
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        for target in _targets(page):
            if target.is_file() and not target.is_relative_to(docs) and target not in found:
                found.append(target)
                if target.suffix == ".md":
                    waiting.append(target)
    return sorted(found)


def rewritten(markdown: str, page: Path, docs: Path) -> str:
    """Return the text with each link to a file of the repository as a link between files of the site."""
    folder = posixpath.dirname(site_uri(page, docs))

    def link(match: re.Match[str]) -> str:
        target = _target(page, match["target"])
        if not target.is_file() or not target.is_relative_to(ROOT):
            return match[0]  # MkDocs names it
        return posixpath.relpath(site_uri(target, docs), folder or ".") + (match["anchor"] or "")

    pieces, end = [], 0
    for fence in FENCE.finditer(markdown):
        pieces += [LINK.sub(link, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return with_plain_pipes("".join([*pieces, LINK.sub(link, markdown[end:])]))


def with_plain_pipes(markdown: str) -> str:
    """Return the text without backslashes before pipes in the code of tables: code hosts need them, MkDocs does not."""
    return TABLE_ROW.sub(lambda row: CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), markdown)


def site_uri(path: Path, docs: Path) -> str:
    """Return where a file stands in the site, relative to its root and with ``/``."""
    inside = path.is_relative_to(docs)
    return path.relative_to(docs).as_posix() if inside else f"repository/{path.relative_to(ROOT).as_posix()}"


def _target(page: Path, link: str) -> Path:
    return Path(os.path.normpath(page.parent / link))


def _targets(page: Path) -> list[Path]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [target for match in LINK.finditer(text) if (target := _target(page, match["target"])).is_relative_to(ROOT)]
