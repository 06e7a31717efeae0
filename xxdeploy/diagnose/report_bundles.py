"""Reports of bundles that are there: the page that one carries, or a page of two."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.batch.records import write_whole
from xxdeploy.errors import UsageError
from xxdeploy.report import REPORT, render_report
from xxdeploy.report.compare import Row, Side, compare_sides, render_comparison
from xxdeploy.report.peers import Peers, peers_from_json, with_peers
from xxdeploy.results import LayerNoise, OnProgress, Progress, noise_from_json
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.image.batch import batch_for
from xxdeploy.runtime.selftest import read_golden

ROUNDS, WARM_UP = 40, 5
_NOISE = "sensitivity.json"


@dataclass(frozen=True, slots=True)
class ReportFile:
    """The page that was written (or is in the bundle), and rows where it compares two bundles."""

    page: Path
    rows: tuple[Row, ...] = ()


def report_bundle(bundle: Path, out: Path | None, peers: Path | None = None) -> ReportFile:
    """Find the bundle's own page once its hash is right, or make one of the manifest for a bundle that has none.

    ``out`` is where to write it; None: where it lies, or beside the bundle. ``peers`` is a ``peers.json`` of
    benchmarks/peers.py to put into the page, which is then written beside the bundle: the one inside is hashed.

    Raises
    ------
    BundleError
        As ``runtime.load``; ``damaged-sensitivity``.
    UsageError
        ``output-unwritable``, ``bad-peers``.
    """
    root, manifest = open_bundle(bundle)
    entry = next((each for each in manifest.files if each.path == REPORT), None)
    if entry is None:
        page = render_report(manifest, _noise(root, manifest))
    elif peers is None and out is None:
        read_entry(root, entry)
        return ReportFile(root / REPORT)
    else:
        page = read_entry(root, entry).decode("utf-8", errors="replace")
    if peers is not None:
        page = with_peers(page, _peers(peers, str(manifest.source.get("model"))))
    return ReportFile(_written(out or root.with_name(f"{root.name}-{REPORT}"), page))


def _peers(path: Path, network: str) -> Peers:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="benchmarks/peers.py writes peers.json into its --out",
            code="bad-peers",
        ) from error
    return peers_from_json(text, network)


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
    """Return milliseconds from one golden picture to the output in each, in turn."""
    pictures = [read_golden(each.root, each.manifest, each.variant)[0][:1] for each in runtimes]
    found: list[list[float]] = [[], []]
    for turn in range(WARM_UP + ROUNDS):
        for each, picture, times in zip(runtimes, pictures, found, strict=True):
            start = time.perf_counter()
            each.session.run(batch_for(each.session, each.manifest.preprocess, picture))
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
