"""Reports of bundles that are there: the page that one carries, or a page of two."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.artifacts import LayerNoise, OnProgress, Progress, noise_from_json
from xxdeploy.errors import UsageError
from xxdeploy.pipeline.matrix_records import write_whole
from xxdeploy.report import REPORT, render_report
from xxdeploy.report.compare import Row, Side, compare_sides, render_comparison
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.files import open_bundle, read_entry
from xxdeploy.runtime.manifest import Manifest
from xxdeploy.runtime.selftest import read_golden

ROUNDS, WARM_UP = 40, 5
_NOISE = "sensitivity.json"


@dataclass(frozen=True, slots=True)
class ReportFile:
    """The page that was written (or is in the bundle), and rows where it compares two bundles."""

    page: Path
    rows: tuple[Row, ...] = ()


def report_bundle(bundle: Path, out: Path | None) -> ReportFile:
    """Find the bundle's own page once its hash is right, or make one of the manifest for a bundle that has none.

    ``out`` is where to write it; None: where it lies, or beside the bundle.

    Raises
    ------
    BundleError
        As ``runtime.load``; ``damaged-sensitivity``.
    UsageError
        ``output-unwritable``.
    """
    root, manifest = open_bundle(bundle)
    entry = next((each for each in manifest.files if each.path == REPORT), None)
    if entry is None:
        page = render_report(manifest, _noise(root, manifest))
        return ReportFile(_written(out or root.with_name(f"{root.name}-{REPORT}"), page))
    page = read_entry(root, entry).decode("utf-8", errors="replace")
    return ReportFile(root / REPORT if out is None else _written(out, page))


def compare_bundles(left: Path, right: Path, out: Path | None, *, on_progress: OnProgress | None = None) -> ReportFile:
    """Compare two bundles by what their manifests say and by their times here, taken in turn, and write a page.

    Raises
    ------
    BundleError, EngineError
        As ``runtime.load``.
    UsageError
        ``output-unwritable``.
    """
    runtimes = load(left), load(right)
    times = _times(runtimes, on_progress or (lambda _: None))
    sides = [
        Side(each.manifest, each.variant, _noise(each.root, each.manifest), tuple(taken))
        for each, taken in zip(runtimes, times, strict=True)
    ]
    names = [each.root.name for each in runtimes]
    page = out or Path(f"{names[0]}-beside-{names[1]}.html")
    return ReportFile(_written(page, render_comparison(*sides)), compare_sides(*sides))


def _times(runtimes: tuple[Runtime, Runtime], report: OnProgress) -> list[list[float]]:
    """Return milliseconds of one golden image in each, in turn."""
    batches = []
    for each in runtimes:
        inputs, _ = read_golden(each.root, each.manifest, each.variant)
        batches.append(each.manifest.preprocess.normalise(inputs[:1]))
    found: list[list[float]] = [[], []]
    for turn in range(WARM_UP + ROUNDS):
        for each, batch, times in zip(runtimes, batches, found, strict=True):
            start = time.perf_counter()
            each.session.run(batch)
            if turn >= WARM_UP:
                times.append(1000 * (time.perf_counter() - start))
        report(Progress("latency", turn + 1, WARM_UP + ROUNDS))
    return found


def _noise(root: Path, manifest: Manifest) -> tuple[LayerNoise, ...]:
    entry = next((each for each in manifest.files if each.path == _NOISE), None)
    return () if entry is None else noise_from_json(read_entry(root, entry))


def _written(path: Path, page: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="choose another --out",
            code="output-unwritable",
        ) from error
    return path
