"""From a manifest, and what an export measured, to one HTML page.

The page holds no script and asks for nothing over the network: its Content-Security-Policy says so to the browser.
All text in it is escaped, since the names of layers, classes and files come from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from xxdeploy.report import draw as write
from xxdeploy.report.draw import bars, interval, strips
from xxdeploy.results import WARNING, ComparisonRecord, Evidence, LayerNoise, Rung, worst_parities
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.bundle.tasks import TASKS

REPORT = "report.html"
"""The path of the page in a bundle."""
GOOD, CARE = "good", "care"
_WORST = 24
_STEPS, _SHORTEST = 14, 0.05
"""The largest number of steps to show, and the shortest step in seconds."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of single images in one runner, interleaved with the others; its file's size, None without one."""

    runner: str
    size_bytes: int | None
    milliseconds: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Changed:
    """An evaluation image whose class by the exported file (``after``) differs from Keras' (``before``).

    ``truth`` is its label, "" without labels; ``picture`` a small JPEG as a data URI, empty without pictures.
    """

    name: str
    before: str
    after: str
    truth: str
    picture: str = field(repr=False)

    @property
    def kind(self) -> str:
        """Return ``newly wrong``, ``newly right``, ``wrong either way``, or ``changed`` without labels."""
        if not self.truth:
            return "changed"
        return {self.before: "newly wrong", self.after: "newly right"}.get(self.truth, "wrong either way")


@dataclass(frozen=True, slots=True)
class Pair:
    """What Keras (``before``) and the exported file (``after``) make of one picture, and where they differ.

    All are small pictures as data URIs; ``gain`` is the factor by which the difference is enlarged.
    """

    name: str
    picture: str = field(repr=False)
    before: str = field(repr=False)
    after: str = field(repr=False)
    difference: str = field(repr=False)
    gain: int = 1


@dataclass(frozen=True, slots=True)
class ClassCount:
    """The evaluation images of one class: how many Keras (``before``) and the file (``after``) get right."""

    name: str
    images: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of one export that do not repeat, and so are not in the manifest.

    ``changed`` lists the first changed images; ``changes`` is the total number that differ between ``candidate`` and
    Keras. ``steps`` are names and seconds; ``confused`` holds (before, after, how often), the most frequent first;
    ``sheet`` calibration pictures as data URIs; ``pairs`` output pictures of ``candidate`` and Keras; ``sentences`` and
    ``processors`` the export's conclusions, ``warnings`` those that doubt its input, ``promises`` a line that begins
    with PASS or FAIL for each; ``command`` the command line that makes the bundle again; ``classes`` the accuracy of
    each class; ``sizes`` the bytes of each file; ``made`` when and where the export ran.
    """

    timings: tuple[Timing, ...] = ()
    steps: tuple[tuple[str, float], ...] = ()
    rungs: tuple[Rung, ...] = ()
    candidate: str = ""
    changes: int = 0
    changed: tuple[Changed, ...] = ()
    classes: tuple[ClassCount, ...] = ()
    confused: tuple[tuple[str, str, int], ...] = ()
    sheet: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    sentences: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    command: str = ""
    sizes: tuple[tuple[str, int], ...] = ()
    made: tuple[tuple[str, str], ...] = ()

    def with_pairs(self, candidate: str, pairs: tuple[Pair, ...]) -> Measured:
        """Return the same with output pictures of ``candidate`` and Keras, if there are any."""
        return replace(self, candidate=candidate, pairs=pairs) if pairs else self

    def of_files(self, files: Mapping[str, bytes]) -> Measured:
        """Return the same with the sizes of a bundle's files."""
        return replace(self, sizes=tuple((path, len(data)) for path, data in sorted(files.items())))


def render_report(manifest: Manifest, noise: Sequence[LayerNoise] = (), measured: Measured | None = None) -> str:
    """Return the page. ``manifest`` may be without its files; errors as ``Evidence.from_json``.

    ``noise`` is that of each layer, the worst first; ``measured`` is None for a page made later from a bundle, which
    holds neither times nor pictures.
    """
    seen, evidence = measured or Measured(), Evidence.from_json(manifest.evidence)
    warnings = dict.fromkeys((*seen.warnings, *(note for note in evidence.notes if note.startswith(WARNING))))
    return write.render(
        "report.html",
        manifest=manifest,
        evidence=evidence,
        seen=seen,
        verdict=verdict(manifest, seen),
        warnings=[warning.removeprefix(WARNING).strip() for warning in warnings],
        notes=[note for note in evidence.notes if note not in warnings],
        tiles=tiles(manifest, seen),
        kinds=_kinds(seen.changed),
        stages=_stages(evidence, seen),
        steps=bars([(name, took, write.seconds(took)) for name, took in _longest(seen.steps)]),
        parities=worst_parities(evidence.parity),
        comparisons=[_with_bars(record) for record in evidence.comparison],
        scored=[record for record in evidence.comparison or evidence.selection if record.scores is not None],
        domain=evidence.domain,
        rungs=seen.rungs or evidence.ladder,
        passed=all(tile.state == GOOD for tile in tiles(manifest, seen)),
        layers=bars([(layer.layer, _loss(layer), write.decibel(layer.sqnr_db)) for layer in noise[:_WORST]]),
        noise=noise,
        strips=strips([(timing.runner, timing.milliseconds) for timing in seen.timings]),
        recipe=json.dumps(evidence.recipe, indent=2) if evidence.recipe else "",
        source=json.dumps(dict(manifest.source), indent=2, sort_keys=True),
        method="predict" if manifest.task == "classification" else TASKS[manifest.task].method,
    )


def _stages(evidence: Evidence, seen: Measured) -> list[dict[str, Any]]:
    """Return size, median time, top-1 and agreement of each stage from Keras to the files."""
    accuracies = {} if evidence.accuracy is None else {row.runner: row for row in evidence.accuracy.runners}
    timings = {timing.runner: timing for timing in seen.timings}
    names = dict.fromkeys((*timings, *accuracies)) or dict.fromkeys(("keras", *worst_parities(evidence.parity)))
    return [
        {
            "name": name,
            "size": timings[name].size_bytes if name in timings else None,
            "p50": median(timings[name].milliseconds) if name in timings else None,
            "top1": accuracies[name].top1 if name in accuracies else None,
            "agreement": accuracies[name].agreement if name in accuracies else None,
        }
        for name in names
    ]


def _longest(steps: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the steps that took longest, in their order."""
    timed = [step for step in steps if step[1] >= _SHORTEST]
    least = sorted((took for _, took in timed), reverse=True)[:_STEPS][-1:] or [0.0]
    return [step for step in timed if step[1] >= least[0]]


def _with_bars(record: ComparisonRecord) -> dict[str, Any]:
    """Return the record's figures and the positions of its intervals on a scale."""
    bar = change_bar = None
    if record.agreement is not None and record.agreement_interval is not None:
        bar = interval(record.agreement_interval, record.agreement, 0.9, 1.0)
    if record.change is not None and record.change_interval is not None:
        change_bar = interval(record.change_interval, record.change, -0.03, 0.03)
    return {**asdict(record), "figures": record.figures, "agreement_bar": bar, "change_bar": change_bar}


def _loss(layer: LayerNoise) -> float:
    """Return the length of a layer's bar: its noise as a share of its signal's amplitude."""
    return 0.0 if layer.sqnr_db is None else float(10 ** (-layer.sqnr_db / 20))


_KINDS = ("newly wrong", "newly right", "wrong either way", "changed")


def _kinds(changed: Sequence[Changed]) -> dict[str, list[Changed]]:
    """Return the changed images by their kind."""
    groups = {kind: [image for image in changed if image.kind == kind] for kind in _KINDS}
    return {kind: images for kind, images in groups.items() if images}


def verdict(manifest: Manifest, seen: Measured) -> str:
    """Return one sentence: what the bundle is, and what it costs and saves."""
    evidence = Evidence.from_json(manifest.evidence)
    record = _judged(evidence)
    parts = []
    if record is not None and record.agreement is not None:
        keeps = (
            f"keeps the class of {record.reference} on {write.percent(record.agreement)} % of {record.images} images"
        )
        parts.append(keeps + ("" if record.change is None else f" and {_moved(record.change)}"))
    elif record is not None and record.figures:
        parts.append(f"has a {record.figures[0].sentence} against {record.reference}, {record.images} images")
    elif record is not None and record.sqnr_db is not None:
        parts.append(f"has the features of {record.reference} with {write.decibel(record.sqnr_db)} signal to noise")
    elif evidence.fp32_difference is not None:
        parts.append(f"differs from Keras by at most {write.small(evidence.fp32_difference)}")
    timings = {timing.runner: timing for timing in seen.timings}
    ours = next((timing for name, timing in timings.items() if name not in ("keras", "onnx-fp32")), None)
    floats = timings.get("onnx-fp32")
    if ours is not None and floats is not None and ours.size_bytes and floats.size_bytes:
        ratio = median(ours.milliseconds) / median(floats.milliseconds)
        parts.append(
            f"has {write.megabytes(ours.size_bytes)} instead of {write.megabytes(floats.size_bytes)}, and takes "
            f"{write.ratio(ratio)} of the time of its float32 model on the exporting machine"
        )
    return " ".join(f"{subject} {part}." for subject, part in zip((manifest.name, "It"), parts, strict=False))


def _moved(change: float) -> str:
    """Return the change of top-1 (a share, negative for a loss) in words."""
    if change == 0:
        return "loses no top-1"
    return f"{'gains' if change > 0 else 'loses'} {write.percent(abs(change))} points of top-1"


def _judged(evidence: Evidence) -> ComparisonRecord | None:
    """Return the comparison of the first lowered file: on evaluation images, else on the selection images."""
    records = evidence.comparison or evidence.selection
    if not records:
        return None
    return records[1] if len(records) > 1 and records[0].candidate == "onnx-fp32" else records[0]


@dataclass(frozen=True, slots=True)
class Tile:
    """A verdict at the top: ``state`` is ``good`` or ``care``, ``said`` the figure, ``more`` its meaning."""

    state: str
    title: str
    said: str
    more: str


def tiles(manifest: Manifest, seen: Measured) -> list[Tile]:
    """Return the tiles: is it the same network, how much accuracy is lost, is it smaller and faster."""
    evidence = Evidence.from_json(manifest.evidence)
    precision = manifest.variants[0].precision
    made = [
        *_accuracy(evidence, precision),
        *_domain(evidence),
        *_size(seen),
        *_speed(seen),
        *_engine(evidence, precision),
    ]
    if evidence.fp32_difference is not None:
        more = "largest difference of the float32 graph from Keras"
        made.insert(0, Tile(GOOD, "Same network", write.small(evidence.fp32_difference), more))
    return made


_LEAST_FIGURES = {"psnr": 30.0, "iou": 0.9}
"""Pictures and masks below these are seen to differ. Values are judged by their signal-to-noise ratio."""


def _accuracy(evidence: Evidence, precision: str) -> Iterator[Tile]:
    record = _judged(evidence)
    if record is None:
        if precision != "fp32":
            yield Tile(CARE, "Accuracy", "not measured", "no evaluation images were given")
        return
    if record.top1 is not None and record.change_interval is not None:
        high, low = (write.percent(-end) for end in record.change_interval)
        more = f"lost {write.percent(-(record.change or 0.0))} points (95 % CI {low} to {high}), {record.images} images"
        before, after = map(write.percent, record.top1)
        yield Tile(CARE if record.change_interval[1] < 0 else GOOD, "Top-1", f"{before} → {after}", more)
    if record.agreement is not None and record.agreement_interval is not None:
        low, high = map(write.percent, record.agreement_interval)
        more = f"of images keep the class of {record.reference} (95 % CI {low} to {high})"
        state = CARE if record.agreement < 0.95 else GOOD
        yield Tile(state, "Agreement", f"{write.percent(record.agreement)} %", more)
    elif record.figures:
        first, *others = record.figures
        least = _LEAST_FIGURES.get(first.name)
        is_low = (record.sqnr_db or 0) < 20 if least is None else first.value < least
        more = ", ".join(figure.sentence for figure in others)
        said = f"{first.text} {first.kind.unit}".rstrip()
        yield Tile(CARE if is_low else GOOD, first.kind.title, said, more or f"against {record.reference}")
    elif record.sqnr_db is not None:
        state = CARE if record.sqnr_db < 20 else GOOD
        yield Tile(state, "Features", write.decibel(record.sqnr_db), "signal-to-noise ratio of the features")


def _domain(evidence: Evidence) -> Iterator[Tile]:
    if evidence.domain is not None and evidence.domain.warns:
        said = f"{evidence.domain.differing} of {evidence.domain.layers} layers differ"
        yield Tile(CARE, "Calibration images", said, "the evaluation images are of another kind")


def _size(seen: Measured) -> Iterator[Tile]:
    sizes = [timing.size_bytes for timing in seen.timings if timing.size_bytes]
    if len(sizes) > 1:
        ours = sizes[2] if len(sizes) > 2 else sizes[1]
        more = f"{sizes[0] / ours:.1f} times smaller than the float32 weights"
        yield Tile(GOOD, "Size", write.megabytes(ours), more if ours < sizes[0] else "as large as the weights")


def _speed(seen: Measured) -> Iterator[Tile]:
    times = {timing.runner: median(timing.milliseconds) for timing in seen.timings}
    floats = times.get("onnx-fp32")
    ours = next((time for name, time in times.items() if name not in ("keras", "onnx-fp32")), None)
    if floats and ours:
        more = f"{write.ratio(ours / floats)} of float32 in the same run, on the machine of the export"
        more += "" if ours < floats else ": it is not faster there"
        yield Tile(GOOD if ours < floats else CARE, "Time", write.milliseconds(ours), more)
    elif floats and "keras" in times:
        more = f"{write.ratio(floats / times['keras'])} of Keras in the same run, on the machine of the export"
        yield Tile(GOOD if floats < times["keras"] else CARE, "Time", write.milliseconds(floats), more)


def _engine(evidence: Evidence, precision: str) -> Iterator[Tile]:
    if evidence.engine is not None:
        built = evidence.engine.depth == "engine"
        depth = "read from the layers of the built engine" if built else "read from the parsed network"
        share = write.percent(evidence.engine.shares.get(precision))
        yield Tile(GOOD, "Engine", f"{share} % {precision}", f"of all multiplications, {depth}")
