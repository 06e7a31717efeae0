"""Write ``constraints.txt``: the versions of all libraries in this environment. Run ``scripts/check.py`` there before.

    python scripts/make_constraints.py
    pip install -c constraints.txt "PATH[export]"

The libraries are those of the extra ``dev`` and everything that they need. Libraries that are not installed, because
they have no wheels for this system, have no line.
"""

from __future__ import annotations

import platform
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"


def extras() -> dict[str, list[str]]:
    """Return the requirements of each extra in ``pyproject.toml``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups: dict[str, list[str]] = project["optional-dependencies"]
    return groups


def requirements(extra: str, groups: dict[str, list[str]]) -> list[Requirement]:
    """Return the requirements of an extra, those of the extras of this project that it names included."""
    wanted = []
    for requirement in map(Requirement, groups[extra]):
        if requirement.name == "xxdeploy":
            for other in requirement.extras:
                wanted += requirements(other, groups)
        else:
            wanted.append(requirement)
    return wanted


def versions(wanted: Iterable[Requirement]) -> dict[str, str]:
    """Return the installed version of each library and of everything that it needs on this system, by name."""
    installed: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = list(wanted)
    while queue:
        requirement = queue.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            library = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        installed[key[0]] = library.version
        for needed in map(Requirement, library.requires or ()):
            names = ("", *requirement.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": name}) for name in names):
                queue.append(needed)
    return installed


def constraints() -> str:
    """Return the text of the file."""
    lines = [
        f"# Versions in a development environment, Python {sys.version_info[0]}.{sys.version_info[1]} on "
        f"{platform.system()} {platform.machine()}, written by scripts/make_constraints.py.",
        "# To install them: pip install -c constraints.txt ...",
    ]
    lines += [f"{name}=={version}" for name, version in sorted(versions(requirements("dev", extras())).items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(constraints(), encoding="utf-8")
    print(f"{FILE.name}: {len(FILE.read_text(encoding='utf-8').splitlines()) - 2} libraries")
