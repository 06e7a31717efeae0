"""One summary of a matrix: rows for a table, one JSON document, and one HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from string import Template

from xxdeploy.batch.jobs import Cell
from xxdeploy.batch.records import CellRecord
from xxdeploy.files import write_atomic


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One cell for people: text in every field, ``-`` where there is nothing."""

    name: str
    state: str
    nodes: str
    size: str
    difference: str
    top1: str
    agreement: str
    seconds: str
    memory: str
    problem: str

    @property
    def cells(self) -> tuple[str, ...]:
        """All but the problem, in the order of ``HEADINGS``."""
        return (
            self.name,
            self.state,
            self.nodes,
            self.size,
            self.difference,
            self.top1,
            self.agreement,
            self.seconds,
            self.memory,
        )


HEADINGS = ("bundle", "", "nodes", "size", "largest difference", "top-1", "agreement", "took", "memory")
FILES = ("summary.json", "summary.html")


def summary_row(record: CellRecord) -> SummaryRow:
    """Put a record into words. The figures are those of the bundle's first variant, the difference that to Keras."""
    nodes = size = difference = top1 = agreement = "-"
    if record.card is not None and record.state == "done":
        name, variant = next(iter(record.card["variants"].items()))
        stage = f"onnx-{name}"
        nodes, size = str(variant["nodes"]), f"{variant['bytes'] / 1e6:.1f} MB"
        if parity := record.card["parity"].get(stage):
            difference = f"{parity['max_abs']:.0e}"
        if shares := record.card.get("accuracy", {}).get(stage):
            top1, agreement = f"{100 * shares['top1']:.1f}", f"{100 * shares['agreement']:.1f}"
    problem = f"{record.error['code']}: {record.error['message']}" if record.error else ""
    return SummaryRow(
        record.name,
        "kept" if record.again else record.state,
        nodes,
        size,
        difference,
        top1,
        agreement,
        f"{record.seconds:.0f} s" if record.seconds else "-",
        "-" if record.peak_bytes is None else f"{record.peak_bytes / 1e9:.1f} GB",
        problem,
    )


def write_summary(cells: Sequence[Cell], records: Sequence[CellRecord], out: Path) -> tuple[Path, Path]:
    """Write ``summary.json`` and ``summary.html`` into ``out`` and return their paths."""
    paths = out / FILES[0], out / FILES[1]
    document = {
        "done": sum(record.state == "done" for record in records),
        "failed": sum(record.state != "done" for record in records),
        "cells": [
            {**asdict(record), "model": cell.model, "precision": cell.precision, "options": dict(cell.options)}
            for cell, record in zip(cells, records, strict=True)
        ],
    }
    write_atomic(paths[0], json.dumps(document, indent=1, sort_keys=True) + "\n")
    write_atomic(paths[1], html_from_records(records))
    return paths


def html_from_records(records: Sequence[CellRecord]) -> str:
    """Return the page. Every text is escaped: messages quote files that may come from somebody else."""
    rows = []
    for record in records:
        row, kind = summary_row(record), "ok" if record.state == "done" else "bad"
        cells = "".join(_cell(heading, text) for heading, text in zip(HEADINGS, row.cells, strict=True))
        rows.append(f'<tr class="{kind}">{cells}</tr>')
        if record.error is not None:
            hint = f"<br>{escape(record.error['hint'])}" if record.error.get("hint") else ""
            rows.append(
                f'<tr class="{kind}"><td class="why" colspan="{len(HEADINGS)}">{escape(row.problem)}{hint}</td></tr>'
            )
    failed = sum(record.state != "done" for record in records)
    bundles = f"{len(records)} bundle{'s' if len(records) != 1 else ''}"
    return Template(_PAGE).substitute(
        total=f"{bundles}, {failed} failed" if failed else f"{bundles}, all right",
        headings="".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS),
        rows="\n".join(rows),
    )


def _cell(heading: str, text: str) -> str:
    """On a narrow screen the heading stands in front of the figure, and what was not measured is left out."""
    absent = ' class="none"' if text == "-" else ""
    return f'<td data-label="{escape(heading)}"{absent}>{escape(text)}</td>'


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>xxdeploy: networks and precisions</title>
<style>
:root { color-scheme: light dark; --text: #1c1c1c; --back: #fff; --faint: #666; --line: #ddd; --bad: #b00020; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --back: #161616; --faint: #9a9a9a; --line: #383838; --bad: #ff8a80; }
}
body { margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem; color: var(--text); background: var(--back);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.3rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-top: 1px solid var(--line); }
th { color: var(--faint); font-weight: 500; border: 0; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2), td.why { text-align: left; }
tr.bad td { color: var(--bad); }
td.why { border-top: 0; padding-top: 0; font-size: .9rem; overflow-wrap: anywhere; }
@media (max-width: 48rem) {
  table, tbody, tr, td { display: block; text-align: left; border: 0; padding: 0; }
  thead, td.none { display: none; }
  tr { padding: .6rem 0 0; }
  tr + tr.ok, tr.ok + tr { border-top: 1px solid var(--line); }
  td:first-child { font-weight: 600; overflow-wrap: anywhere; }
  td:not(:first-child):not(.why)::before { content: attr(data-label) " "; color: var(--faint); }
  td:not(:first-child):not(.why):not(.none) { display: inline-block; margin-right: 1rem; }
}
</style>
<h1>xxdeploy: networks and precisions</h1>
<p>$total</p>
<table>
<thead><tr>$headings</tr></thead>
<tbody>
$rows
</tbody>
</table>
</html>
"""
