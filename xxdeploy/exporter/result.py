"""Results of an export, and of the verification of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from xxdeploy.results import DomainRecord, Figure, Parity, Rung, ScoreShift, StepRecord
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.selftest import SelfTest


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


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A bundle that was written, and the results of the steps that made it.

    ``task`` is a name of ``runtime.bundle.tasks.TASKS``; ``processors`` describe the file of each kind of processor.
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
