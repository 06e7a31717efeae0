"""The folders that ship inside the package, such as the examples. Standard library only."""

from __future__ import annotations

import ast
import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.files import write_new

PACKAGE = Path(__file__).resolve().parent
_FIRST = ("predict.cc",)
"""The files of a folder of examples that speak for it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One example: its name, its files, and the first sentence of the first of them."""

    name: str
    files: tuple[Path, ...]
    about: str


def shipped(name: str, marker: str, package: Path = PACKAGE) -> Path:
    """Return a folder that ships: inside an installed wheel, or at the top of a checkout.

    ``marker`` is a file or folder in it: another package may have put a folder of the same name next to ours.
    ``UsageError`` ``no-shipped-folder``: neither is there.
    """
    for folder in (package / "_shipped" / name, package.parent / name):
        if (folder / marker).exists():
            return folder
    raise UsageError(
        f"the folder {name} is missing from this installation",
        hint="reinstall xxdeploy, or run it in a whole checkout",
        code="no-shipped-folder",
    )


def examples(package: Path = PACKAGE) -> tuple[Example, ...]:
    """Return the examples by name: each file is one, and each folder. ``UsageError`` ``no-shipped-folder``."""
    found = []
    for path in sorted(shipped("examples", "http_service.py", package).iterdir()):
        if path.name == "__pycache__":
            continue
        inside = path.iterdir() if path.is_dir() else [path]
        files = tuple(sorted(inside, key=lambda file: (file.name not in _FIRST, file.name)))
        found.append(Example(path.stem, files, _about(files[0])))
    return tuple(found)


def copy_example(name: str, folder: Path) -> tuple[Path, ...]:
    """Copy the files of an example into a folder, which is made if it is missing; return the new files.

    ``UsageError``: ``unknown-example``; ``example-exists`` (no file is replaced); ``output-unwritable``.
    """
    known = {example.name: example for example in examples()}
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        raise UsageError(
            f"there is no example {name!r}",
            hint=f"did you mean `xxdeploy example {close[0]}`?" if close else "`xxdeploy example` lists them",
            code="unknown-example",
        )
    targets = {folder / file.name: file for file in known[name].files}
    try:
        for path in (*([] if folder.is_dir() else [folder]), *targets):
            if os.path.lexists(path):
                raise UsageError(
                    f"{path} already exists",
                    hint=f"choose another folder: xxdeploy example {name} FOLDER",
                    code="example-exists",
                )
        folder.mkdir(parents=True, exist_ok=True)
        for target, file in targets.items():
            write_new(target, file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="choose another folder, or check the permissions",
            code="output-unwritable",
        ) from error
    return tuple(targets)


def _about(file: Path) -> str:
    """Return the first sentence of an example: of its docstring, its first heading or its first comment."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    elif file.suffix == ".ipynb":
        text = "".join(json.loads(text)["cells"][0]["source"]).lstrip("# ")
    else:
        text = text.lstrip("/* ")
    return text.partition("\n")[0].rstrip()
