"""Reports of finished bundles: the page that one bundle carries, or a page that compares two."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.files import write_atomic
from xxdeploy.report.compare import Row, Side, compare_sides, render_comparison
from xxdeploy.report.page import REPORT, render_report
from xxdeploy.report.peers import Peers, peers_from_json, with_peers
from xxdeploy.results import LayerNoise, OnProgress, Progress, noise_from_json
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.engines.session import batch_for
from xxdeploy.runtime.selftest import read_golden

ROUNDS, WARM_UP = 40, 5
_NOISE = "sensitivity.json"


@dataclass(frozen=True, slots=True)
class ReportFile:
    """The page, written or found in the bundle, and the rows of a comparison of two bundles."""

    page: Path
    rows: tuple[Row, ...] = ()


def report_bundle(bundle: Path, out: Path | None, peers: Path | None = None) -> ReportFile:
    """Find the bundle's own page and check its hash, or render one from the manifest where the bundle has none.

    ``out`` is the file to write the page to; None leaves the bundle's page where it is, or writes BUNDLE-report.html
    next to the bundle. A page with ``peers``, a ``peers.json`` of benchmarks/peers.py, is always written to a file: the
    page inside the bundle is hashed and cannot change.

    Raises
    ------
    BundleError
        As ``runtime.load``; ``damaged-sensitivity``.
    UsageError
        ``output-unwritable``, ``bad-peers``.
    """
    root, manifest = open_bundle(bundle)
    entry = next((file for file in manifest.files if file.path == REPORT), None)
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
        return peers_from_json(path.read_bytes(), network)
    except OSError as error:
        raise UsageError(
            f"--peers {path} cannot be read: {error.strerror or error}",
            hint="give the peers.json that benchmarks/peers.py wrote into its --out folder",
            code="bad-peers",
        ) from error


def compare_bundles(left: Path, right: Path, out: Path | None, *, on_progress: OnProgress | None = None) -> ReportFile:
    """Compare the manifests of two bundles and their times on this machine, measured interleaved, and write a page.

    Errors as ``runtime.load``; ``UsageError`` ``output-unwritable``.
    """
    runtimes = load(left), load(right)
    times = _times(runtimes, on_progress or (lambda _: None))
    sides = [
        Side(runtime.manifest, runtime.variant, _noise(runtime.root, runtime.manifest), tuple(milliseconds))
        for runtime, milliseconds in zip(runtimes, times, strict=True)
    ]
    names = [runtime.root.name for runtime in runtimes]
    page = out or Path(f"{names[0]}-beside-{names[1]}.html")
    return ReportFile(_written(page, render_comparison(*sides)), compare_sides(*sides))


def _times(runtimes: tuple[Runtime, Runtime], report: OnProgress) -> list[list[float]]:
    """Return milliseconds from one golden image to the output for each runtime; the runs are interleaved."""
    images = [read_golden(runtime.root, runtime.manifest, runtime.variant)[0][:1] for runtime in runtimes]
    taken: list[list[float]] = [[], []]
    for turn in range(WARM_UP + ROUNDS):
        for runtime, image, times in zip(runtimes, images, taken, strict=True):
            start = time.perf_counter()
            runtime.session.run(batch_for(runtime.session, runtime.manifest.form, image))
            if turn >= WARM_UP:
                times.append(1000 * (time.perf_counter() - start))
        report(Progress("latency", turn + 1, WARM_UP + ROUNDS))
    return taken


def _noise(root: Path, manifest: Manifest) -> tuple[LayerNoise, ...]:
    entry = next((file for file in manifest.files if file.path == _NOISE), None)
    return () if entry is None else noise_from_json(read_entry(root, entry))


def _written(path: Path, page: str) -> Path:
    try:
        write_atomic(path, page)
    except OSError as error:
        raise UsageError(
            f"the report {path} cannot be written: {error.strerror or error}",
            hint="give another file with --out",
            code="output-unwritable",
        ) from error
    return path
