"""The folders that ship inside the package, such as the examples. Standard library only."""

from __future__ import annotations

import ast
import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.files import write_new

PACKAGE = Path(__file__).resolve().parent
_SUFFIXES = (".py", ".ipynb", ".cc")


@dataclass(frozen=True, slots=True)
class Example:
    """One example: its name, its file, and a sentence about it."""

    name: str
    file: Path
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
    """Return the examples by name. ``UsageError`` ``no-shipped-folder``."""
    folder = shipped("examples", "http_service.py", package)
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    return tuple(Example(_name(file, folder), file, _about(file)) for file in files)


def copy_example(name: str, folder: Path) -> Path:
    """Copy an example into a folder, which is made if it is missing; return the new file.

    ``UsageError``: ``unknown-example``; ``example-exists`` (a file is never replaced); ``output-unwritable``.
    """
    known = {example.name: example for example in examples()}
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        raise UsageError(
            f"there is no example {name!r}",
            hint=f"did you mean `xxdeploy example {close[0]}`?" if close else "`xxdeploy example` lists them",
            code="unknown-example",
        )
    file = known[name].file
    target = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_new(target, file.read_bytes())
    except FileExistsError as error:
        raise UsageError(
            f"{target if folder.is_dir() else folder} already exists",
            hint=f"choose another folder: xxdeploy example {name} FOLDER",
            code="example-exists",
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{target} cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="choose another folder, or check the permissions",
            code="output-unwritable",
        ) from error
    return target


def _name(file: Path, folder: Path) -> str:
    """Return the name of an example: that of its file, after that of its folder if it has one of its own."""
    return "_".join((*file.relative_to(folder).parts[:-1], file.stem))


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
