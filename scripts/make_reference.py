"""Write ``docs/reference`` from the code: the commands with their options, and the public functions and values.

    python scripts/make_reference.py [--check]

All text comes from signatures and docstrings. A test compares the pages with the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter
from json_schema import json_schema

import xxdeploy
import xxdeploy.errors
import xxdeploy.exporter
import xxdeploy.runtime
from xxdeploy.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- made by scripts/make_reference.py: change the docstrings, not this page -->\n"


def cli_page() -> str:
    """Return the commands, their arguments and options."""
    lines = [
        "# The command line",
        NOTE,
        "Results go to stdout, progress to stderr; `--json` prints results as JSON (`json-output.schema.json`).",
    ]
    lines += ["Exit statuses and codes: [errors.md](errors.md).", ""]
    for name, (command, example) in COMMANDS.items():
        about = (inspect.getdoc(command) or "").partition("\nParameters\n")[0]
        lines += [f"## xxdeploy {name}", "", _plain(" ".join(about.split())), "", *_examples(example)]
        rows = list(_options(command))
        if rows:
            lines += ["| option | default | effect |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def api_page() -> str:
    """Return the public names of the runtime, the pipeline and the errors."""
    lines = ["# Python", NOTE]
    for module in (xxdeploy, xxdeploy.runtime, xxdeploy.exporter, xxdeploy.errors):
        names = getattr(module, "__all__", None) or [name for name in vars(module) if name.endswith("Error")]
        lines += [f"## {module.__name__}", "", _plain((module.__doc__ or "").partition("\n")[0]), ""]
        for name in names:
            lines += _entry(name, getattr(module, name))
    return "\n".join(lines)


def _options(command: Any) -> Iterator[str]:
    """Yield a row for each argument, as cyclopts shows it on the help screen."""
    app = App(default_parameter=Parameter(negative=""))
    app.default(command)
    for argument in app.assemble_argument_collection(parse_docstring=True):
        if argument.children:  # a dataclass, whose fields follow
            continue
        name, positional, default = argument.names[0], argument.index is not None, argument.field_info.default
        kind = "" if positional else _kind(argument.hint)
        empty = default is False or default in (inspect.Parameter.empty, None, "", ())
        shown = "" if empty else f"`{default}`"
        words = " ".join((argument.parameter.help or "").split())
        if not words:
            raise SystemExit(f"{command.__module__}: {name} is not described")
        yield f"| `{f'{name} {kind}'.strip()}` | {shown} | {words} |".replace("|  |", "| |")


def _kind(hint: Any) -> str:
    """Return what a value looks like: nothing for a flag, the choices, or the type."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(each for each in typing.get_args(hint) if each is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        return " \\| ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return {bool: "", int: "N", float: "X", Path: "PATH", str: "TEXT"}.get(hint, "")


def _examples(text: str) -> list[str]:
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("xxdeploy")]
    return ["<!-- not run: examples of the help; the tutorials' commands are run -->", "```bash", *commands, "```", ""]


def _entry(name: str, value: Any) -> Iterator[str]:
    text = inspect.getdoc(value) or ""
    if dataclasses.is_dataclass(value):
        helps = {field.name: field.metadata.get("help") for field in dataclasses.fields(value)}
        text = "\n".join([text, *(f"\n{name}\n    {words}" for name, words in helps.items() if words)])
    if inspect.isclass(value):
        signature = "" if issubclass(value, Exception) else _signature(value, name)
    else:
        signature = _signature(value, name)
    yield f"### {name}"
    yield ""
    if signature:
        yield f"```text\n{signature}\n```"
        yield ""
    yield f"```text\n{text}\n```"
    yield ""
    if inspect.isclass(value) and not issubclass(value, Exception):
        for method, function in vars(value).items():
            wrapped = function.__func__ if isinstance(function, classmethod) else function
            if method.startswith("_") or not inspect.isfunction(wrapped):
                continue
            yield f"```text\n{name}.{_signature(wrapped, method)}\n\n{inspect.getdoc(wrapped) or ''}\n```"
            yield ""


def _signature(value: Any, name: str) -> str:
    return f"{name}{inspect.signature(value)}".replace("'", "")


def _plain(text: str) -> str:
    return text.replace("``", "`")


def schema_page() -> str:
    """Return the JSON Schema of what commands print with --json."""
    return json.dumps(json_schema(), indent=1) + "\n"


PAGES = {"cli.md": cli_page, "api.md": api_page, "json-output.schema.json": schema_page}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with --check."""
    folder = ROOT / "docs" / "reference"
    changed = [name for name, page in PAGES.items() if not _is(folder / name, page())]
    if "--check" not in arguments:
        folder.mkdir(parents=True, exist_ok=True)
        for name in changed:
            (folder / name).write_text(PAGES[name](), encoding="utf-8")
    print(f"changed: {', '.join(changed) or 'nothing'}")
    return 1 if changed and "--check" in arguments else 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
