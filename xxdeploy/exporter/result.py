"""Results of an export, and of the verification of a bundle."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xxdeploy.figures import percent, short_number
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import (
    KINDS,
    DomainRecord,
    Evidence,
    Figure,
    LayerNoise,
    ModelFile,
    Parity,
    Ranges,
    Rung,
    ScoreShift,
    StepRecord,
    figure_named,
    worst_parities,
)
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.selftest import SelfTest
from xxdeploy.verify import Comparison


@dataclass(frozen=True, slots=True)
class Lowered:
    """The model files, in order of preference, and what was measured to make them.

    ``ranges`` are the measured ones, ``evidence`` is this step's part of the manifest's; ``selection`` compares each
    INT8 model with the float model on the selection images; ``noise`` lists the layers, the most sensitive first;
    ``sentences`` and ``processors`` are for the user.
    """

    files: tuple[ModelFile, ...]
    ranges: Ranges | None = None
    evidence: Evidence = field(default_factory=Evidence)
    selection: tuple[Comparison, ...] = ()
    noise: tuple[LayerNoise, ...] = ()
    sentences: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()

    def stages(self, fp32: OnnxModel) -> dict[str, OnnxModel]:
        """Return the models that compute different answers by the name of the stage, ``fp32`` first.

        An ARM file shares its integers, and so its answers and its stage, with an x86 file if there is one.
        """
        stages = {"onnx-fp32": fp32}
        for file in sorted(self.files, key=lambda file: "arm" in file.requires):
            if all(file.answers is not stage for stage in stages.values()):
                stages[f"onnx-{file.name}"] = file.answers
        return stages

    def shipped(self, fp32: OnnxModel) -> dict[str, OnnxModel]:
        """Return the model that x86 loads for each of :meth:`stages`: it may read the picture's bytes."""
        x86 = [file for file in self.files if "arm" not in file.requires and file.flat is None]
        return {
            name: next((file.model for file in x86 if file.answers is stage), stage)
            for name, stage in self.stages(fp32).items()
        }


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of the closing table. Shares are 0..1; a figure is None where it was not measured.

    ``latency_p50_ms`` is the median of single images at batch 1, interleaved with the other rows; ``agreement``
    the share of images with the same top-1 class as Keras; ``figures`` are those of the tasks ``image`` and ``values``.
    """

    runner: str
    size_bytes: int | None
    latency_p50_ms: float | None
    top1: float | None
    top5: float | None
    agreement: float | None
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True)
class Conclusions:
    """Sentences for the user.

    ``sentences`` state the loss of each model and the budgets, ``promises`` are a line that begins with PASS or FAIL
    for each promise and model, ``warnings`` are reasons to doubt the input of the proof.
    """

    sentences: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def plus(self, *sentences: str) -> Conclusions:
        """Return the same with more ``sentences``."""
        return replace(self, sentences=(*self.sentences, *sentences))

    def warned(self, *warnings: str) -> Conclusions:
        """Return the same with more ``warnings``, which come first."""
        return replace(self, warnings=(*warnings, *self.warnings))


@dataclass(frozen=True, slots=True, repr=False)
class ExportResult:
    """A bundle that was written, and the results of the steps that made it.

    ``task`` is a name of ``runtime.bundle.tasks.TASKS``; ``processors`` describe the file of each kind of processor;
    ``inputs`` are the names of the inputs, ``image`` for a model of one picture. ``repr`` and ``_repr_html_`` are the
    closing table and the sentences, for an interpreter and a notebook.
    """

    bundle: Path
    rows: tuple[TableRow, ...]
    parities: tuple[Parity, ...]
    steps: tuple[StepRecord, ...]
    notes: tuple[str, ...]
    task: str = "classification"
    rungs: tuple[Rung, ...] = ()
    conclusions: Conclusions = Conclusions()
    processors: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("image",)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """A line that begins with PASS or FAIL for each promise and model; empty without promises."""
        return self.conclusions.promises

    @property
    def _sentences(self) -> tuple[str, ...]:
        concluded = self.conclusions
        notes = (f"note: {note}" for note in self.notes)
        return (*concluded.warnings, *concluded.promises, *concluded.sentences, *self.processors, *notes)

    def __repr__(self) -> str:
        headings, lines = table_of(self.rows, self.parities)
        table = [headings, *lines]
        widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
        drawn = [
            "  ".join(f"{cell:<{w}}" if column == 0 else f"{cell:>{w}}" for column, (cell, w) in enumerate(cells))
            for cells in (list(zip(row, widths, strict=True)) for row in table)
        ]
        return "\n".join((f"bundle {self.bundle}", *(line.rstrip() for line in drawn), *self._sentences))

    def _repr_html_(self) -> str:
        headings, lines = table_of(self.rows, self.parities)
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in headings)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
        told = "".join(f"<div>{html.escape(sentence)}</div>" for sentence in self._sentences)
        path = html.escape(str(self.bundle))
        return f"<div>bundle <b>{path}</b></div><table><tr>{head}</tr>{body}</table>{told}"


def table_of(
    rows: Sequence[TableRow], parities: Sequence[Parity] = ()
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the headings and lines of the closing table as text, without the columns that have no values.

    Points that were lost are those of the first row's top-1. A parity that is of no row, such as a second output's,
    gets its own. The cosine stands for the agreement where there are no classes and no figures.
    """
    worst = worst_parities(parities)
    features = all(row.agreement is None and not row.figures for row in rows)
    names = [name for name in KINDS if any(figure_named(row.figures, name) for row in rows)]
    lines: list[tuple[str, ...]] = [
        (
            row.runner,
            short_number(None if row.size_bytes is None else row.size_bytes / 1e6),
            short_number(row.latency_p50_ms),
            percent(row.top1),
            percent(row.top5),
            percent(_lost(rows[0], row)) if row is not rows[0] else "-",
            percent(row.agreement),
            *(figure.text if (figure := figure_named(row.figures, name)) else "-" for name in names),
            *_parity(worst.pop(row.runner, None), features=features),
        )
        for row in rows
    ]
    lines += [
        (title, *["-"] * (6 + len(names)), *_parity(parity, features=features)) for title, parity in worst.items()
    ]
    headings: tuple[str, ...] = ("", "MB", "p50 ms", "top-1 %", "top-5 %", "lost points", "agree %")
    headings += (*(KINDS[name].heading for name in names), "max diff", "cosine")
    kept = [column for column in range(len(headings)) if {line[column] for line in lines} != {"-"}]
    return tuple(headings[column] for column in kept), [tuple(line[column] for column in kept) for line in lines]


def _parity(parity: Parity | None, *, features: bool) -> tuple[str, str]:
    if parity is None:
        return "-", "-"
    return f"{parity.max_abs:.1e}", f"{parity.cosine:.4f}" if features else "-"


def _lost(reference: TableRow, row: TableRow) -> float | None:
    return None if reference.top1 is None or row.top1 is None else reference.top1 - row.top1 + 0.0


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """A bundle that was checked: its manifest, the self-test, and a row and notes if there were labeled images.

    ``version`` is that of its signature, None where no key was given. ``scores`` (by file) and ``domain`` are what the
    export measured: see :class:`xxdeploy.results.Evidence`.
    """

    manifest: Manifest
    selftest: SelfTest
    rows: tuple[TableRow, ...]
    version: int | None = None
    notes: tuple[str, ...] = ()
    scores: Mapping[str, ScoreShift] = field(default_factory=dict)
    domain: DomainRecord | None = None
