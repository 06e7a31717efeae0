"""Print results: tables for people, one JSON document for programs."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xxdeploy.cli.failure import printable
from xxdeploy.figures import short_number

if TYPE_CHECKING:
    from xxdeploy.exporter import TableRow
    from xxdeploy.results import Parity

AsJson = Annotated[bool, Parameter(name="--json", help="Print one JSON document instead of tables.")]

BundlePath = Annotated[Path, Parameter(help="Folder written by `xxdeploy export`.")]
PublicKey = Annotated[Path | None, Parameter(help="Public key (.pub). The bundle must carry its signature.")]
MinVersion = Annotated[int, Parameter(help="Lowest signed version to accept.")]

_PIPE_WIDTH = 400


class _Console(Console):
    """A console that leaves a broken pipe to ``xxdeploy.cli.main``; Rich's own would exit."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return a console on the current stdout or stderr, without markup or highlighting. Lines to a pipe do not fold."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return _Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first ``left`` columns are text, the others right-aligned figures that do not fold."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), collapse_padding=True, pad_edge=False)
    for column, heading in enumerate(headings):
        if column < left:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console().print(table)


def print_rows(rows: Sequence[TableRow], parities: Sequence[Parity] = ()) -> None:
    """Print size, latency, accuracy and parity of each runner in at most 80 columns: see ``table_of``."""
    from xxdeploy.exporter.result import table_of

    print_table(*table_of(rows, parities))


def measured_columns(
    headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the headings and rows of a table without the columns whose values are all ``-``."""
    kept = [column for column in range(len(headings)) if {row[column] for row in rows} != {"-"}]
    return [headings[column] for column in kept], [[row[column] for column in kept] for row in rows]


def print_facts(facts: Mapping[str, str]) -> None:
    """Print one name and value per line; long values fold to their own column on a terminal."""
    out, left = console(), max(map(len, facts)) + 2
    for name, value in facts.items():
        head = name
        for line in value.splitlines() or [""]:
            for part in textwrap.wrap(printable(line), max(out.width - left, 20), break_on_hyphens=False) or [""]:
                out.print(Text(f"{printable(head):<{left}}{part}".rstrip()))
                head = ""


def print_line(line: str = "", *, hang: int = 0) -> None:
    """Print one line of text, folded at words on a terminal with ``hang`` spaces before the continuation."""
    out = console()
    parts = textwrap.wrap(printable(line), out.width, subsequent_indent=" " * hang, break_on_hyphens=False)
    for part in parts or [""]:
        out.print(Text(part))


def print_json(value: object) -> None:
    """Print one JSON document in ASCII, which each encoding can represent."""
    sys.stdout.write(json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def plain(value: object) -> Any:
    """Convert results for JSON: dataclasses to objects, paths to strings, NaN and infinity to null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def megabytes(size: int | None) -> str:
    """Format bytes as ``14.2 MB`` (10^6), below 0.1 MB as ``3.1 kB``; ``-`` for None."""
    if size is None:
        return "-"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def milliseconds(value: float | None) -> str:
    """Format milliseconds with about three significant digits; ``-`` for None."""
    return "-" if value is None else f"{short_number(value)} ms"
