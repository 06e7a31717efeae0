"""Check that a tag can be released, print its release notes, and keep the pages true about the package index.

    python scripts/release.py check v1.2.3
    python scripts/release.py notes v1.2.3
    python scripts/release.py pages [--check]

``check`` wants ``PUBLISHED``, a tag ``vX.Y.Z`` or ``vX.Y.ZrcN`` and a section ``## [X.Y.Z] - YYYY-MM-DD`` with text in
CHANGELOG.md; the section of a release candidate is that of its version. Otherwise the exit status is 1, and stderr has
a sentence for each fault.

Until ``PUBLISHED`` is True, each page with a line ``pip install xxdeploy`` has a notice below its title, and the page
about the installation says how such lines work before the first release. ``pages`` writes both, or takes them out.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import date
from pathlib import Path

PUBLISHED = False
"""Whether the package index has xxdeploy. The first release sets it, and runs ``scripts/release.py pages``."""
ROOT = Path(__file__).resolve().parent.parent
INSTALL = Path("docs/how-to/install.md")
_BEGIN, _END = "<!-- written by scripts/release.py pages -->\n", "<!-- end of scripts/release.py pages -->\n"
_LINE = re.compile(r"pip install[^`\n]*\bxxdeploy\b")
_ELSEWHERE = ("docs/reference/errors.md", "docs/reference/cli.md", "docs/reference/api.md", "docs/contributing")
"""Pages about an xxdeploy that is installed: there, pip adds the libraries of an extra without asking the index."""
_BEFORE = """\
## Before the first release

xxdeploy is not on the package index yet. Build its wheel once, in a clone of the repository, and let pip look there:

<!-- not run: scripts/check_wheel.py builds and installs the wheel in fresh environments -->
```bash
python -m pip wheel --no-deps --wheel-dir dist .
export PIP_FIND_LINKS="$PWD/dist"
```

In this shell, every line `pip install "xxdeploy[...]"` of these pages then installs that wheel. (Windows PowerShell:
`$env:PIP_FIND_LINKS = "$PWD\\dist"`.) For a device, copy the folder `dist` and set the variable there; in a Dockerfile,
write `COPY dist /dist` and `ENV PIP_FIND_LINKS=/dist` before the line.
"""
_TAG = re.compile(r"v(?P<version>(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*))(?:rc[1-9]\d*)?")


def version_of(tag: str) -> str | None:
    """Return the version of a tag, without the number of a release candidate; None for another tag."""
    form = _TAG.fullmatch(tag)
    return None if form is None else form["version"]


def section_of(changelog: str, version: str) -> tuple[str, str] | None:
    """Return the date and the text of a version's section; None without one."""
    heading = rf"^## \[{re.escape(version)}\] - (\S+)\n(.*?)(?=^## |^\[[^\]]+\]: |\Z)"
    section = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    return None if section is None else (section[1], section[2].strip())


def pages() -> list[Path]:
    """Return the pages that say ``pip install xxdeploy``, and the page about the installation."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {path.relative_to(ROOT): without_block(path.read_text(encoding="utf-8")) for path in found}
    return [
        path
        for path, text in texts.items()
        if path == INSTALL or (_LINE.search(text) and not path.as_posix().startswith(_ELSEWHERE))
    ]


def without_block(text: str) -> str:
    """Return a page without the block that this script wrote."""
    return re.sub(rf"{re.escape(_BEGIN)}.*?{re.escape(_END)}\n?", "", text, flags=re.DOTALL)


def page_with_block(path: Path, text: str, *, published: bool = PUBLISHED) -> str:
    """Return the text of the page ``path`` (from the top of the repository) as it must be in a state of the release."""
    text = without_block(text)
    if published:
        return text
    if path == INSTALL:
        return f"{text.rstrip()}\n\n{_BEGIN}{_BEFORE}{_END}"
    link = Path(os.path.relpath(INSTALL, path.parent)).as_posix()
    notice = f"> xxdeploy is not on the package index yet: [build its wheel once]({link}#before-the-first-release).\n"
    title, _, rest = text.partition("\n\n")
    return f"{title}\n\n{_BEGIN}{notice}{_END}\n{rest}"


def write_pages(*, check: bool) -> list[str]:
    """Write the pages, or with ``check`` only compare them; return those that were not as they must be."""
    changed = []
    for path in pages():
        text = (ROOT / path).read_text(encoding="utf-8")
        if (wanted := page_with_block(path, text)) != text:
            changed.append(path.as_posix())
            if not check:
                (ROOT / path).write_text(wanted, encoding="utf-8")
    return changed


def faults(tag: str, changelog: str, *, published: bool = PUBLISHED) -> list[str]:
    """Return a sentence for each reason why ``tag`` cannot be released."""
    version = version_of(tag)
    if version is None:
        return [f"the tag {tag!r} is not vX.Y.Z or vX.Y.ZrcN"]
    if not published:
        return ["PUBLISHED in scripts/release.py is False: set it to True, and run scripts/release.py pages"]
    section = section_of(changelog, version)
    if section is None:
        return [f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD': rename [Unreleased], and begin a new one"]
    when, text = section
    found = []
    try:
        date.fromisoformat(when)
    except ValueError:
        found.append(f"the date of [{version}] in CHANGELOG.md is {when!r}, not YYYY-MM-DD")
    if not text:
        found.append(f"the section [{version}] of CHANGELOG.md is empty")
    return found


def main(arguments: list[str]) -> int:
    """Run one of the commands."""
    if arguments in (["pages"], ["pages", "--check"]):
        changed = write_pages(check="--check" in arguments)
        print(f"changed: {', '.join(changed) or 'nothing'}")
        return 1 if changed and "--check" in arguments else 0
    if len(arguments) != 2 or arguments[0] not in ("check", "notes"):
        print(__doc__, file=sys.stderr)
        return 2
    command, tag = arguments
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    problems = faults(tag, changelog)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    section = section_of(changelog, version_of(tag) or "")
    if command == "notes" and section is not None:
        print(section[1])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
