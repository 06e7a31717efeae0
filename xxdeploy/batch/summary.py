"""The summary of a batch: rows for a table, one JSON document, and one HTML page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from xxdeploy.batch.jobs import Job
from xxdeploy.batch.records import JobRecord
from xxdeploy.files import write_atomic
from xxdeploy.report.draw import render


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One job as text; ``-`` for a figure that was not measured. ``problem`` is empty if the job succeeded."""

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
    def columns(self) -> tuple[str, ...]:
        """All fields but the problem, in the order of ``HEADINGS``."""
        return astuple(self)[:-1]


HEADINGS = ("bundle", "", "nodes", "size", "largest difference", "top-1", "agreement", "took", "memory")
FILES = ("summary.json", "summary.html")


def summary_row(record: JobRecord) -> SummaryRow:
    """Return the row of a record: the figures of the bundle's first variant, and its largest difference from Keras."""
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
    seconds = f"{record.seconds:.0f} s" if record.seconds else "-"
    memory = "-" if record.peak_bytes is None else f"{record.peak_bytes / 1e9:.1f} GB"
    state = "kept" if record.again else record.state
    return SummaryRow(record.name, state, nodes, size, difference, top1, agreement, seconds, memory, problem)


def write_summary(jobs: Sequence[Job], records: Sequence[JobRecord], out: Path) -> tuple[Path, Path]:
    """Write ``summary.json`` and ``summary.html`` into ``out`` and return their paths."""
    paths = out / FILES[0], out / FILES[1]
    document = {
        "done": sum(record.state == "done" for record in records),
        "failed": sum(record.state != "done" for record in records),
        "cells": [
            {**asdict(record), "model": job.model, "precision": job.precision, "options": dict(job.options)}
            for job, record in zip(jobs, records, strict=True)
        ],
    }
    write_atomic(paths[0], json.dumps(document, indent=1, sort_keys=True) + "\n")
    write_atomic(paths[1], html_from_records(records))
    return paths


def html_from_records(records: Sequence[JobRecord]) -> str:
    """Return the page. Every text is escaped: messages quote files that may come from somebody else."""
    failed = sum(record.state != "done" for record in records)
    rows = [(record, summary_row(record)) for record in records]
    return render("batch.html", headings=HEADINGS, rows=rows, failed=failed)
