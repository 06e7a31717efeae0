"""Check that a tag can be released, and print its release notes.

    python scripts/release.py check v1.2.3
    python scripts/release.py notes v1.2.3

``check`` wants a tag ``vX.Y.Z`` or ``vX.Y.ZrcN`` and a section ``## [X.Y.Z] - YYYY-MM-DD`` with text in CHANGELOG.md;
the section of a release candidate is that of its version. Otherwise the exit status is 1, and stderr has a sentence for
each fault.
"""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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


def faults(tag: str, changelog: str) -> list[str]:
    """Return a sentence for each reason why ``tag`` cannot be released."""
    version = version_of(tag)
    if version is None:
        return [f"the tag {tag!r} is not vX.Y.Z or vX.Y.ZrcN"]
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
    """Run one of the two commands."""
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
