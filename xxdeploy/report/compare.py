"""Two bundles side by side: rows for a terminal, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from xxdeploy.report import draw as write
from xxdeploy.report.draw import strips
from xxdeploy.results import ComparisonRecord, Evidence, LayerNoise
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.inputs import described, parts_of

_LAYERS = 20
_SAME_DB = 1.0
"""Layers whose noise differs by less than this are not listed."""


@dataclass(frozen=True, slots=True)
class Side:
    """One bundle: its manifest, the variant that this processor runs, its layers' noise, and milliseconds of runs.

    The runs of both sides are interleaved; ``milliseconds`` is empty where nothing was run.
    """

    manifest: Manifest
    variant: Variant
    noise: tuple[LayerNoise, ...] = ()
    milliseconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One property of both bundles; ``change`` says how the second differs, in words, or is empty."""

    name: str
    left: str
    right: str
    change: str = ""


def compare_sides(left: Side, right: Side) -> tuple[Row, ...]:
    """Return rows that describe the two bundles, in the same order for any two. Errors as ``Evidence.from_json``."""
    sides = (left, right)
    evidence = [Evidence.from_json(side.manifest.evidence) for side in sides]
    rows = [
        _row("network", [str(side.manifest.source.get("model", write.NOTHING)) for side in sides]),
        _row("input", [_input(side.manifest) for side in sides]),
        _row("variant here", [f"{side.variant.name}, {side.variant.scheme}" for side in sides]),
    ]
    sizes = [next(entry.size for entry in side.manifest.files if entry.path == side.variant.model) for side in sides]
    rows.append(_row("size", [write.megabytes(size) for size in sizes], write.ratio(sizes[1] / sizes[0])))
    if left.milliseconds and right.milliseconds:
        medians = [write.milliseconds(median(side.milliseconds)) for side in sides]
        rows.append(_row("time here, p50", medians, pace(*sides)))
    records = [_comparison(part, side.variant) for part, side in zip(evidence, sides, strict=True)]
    if any(records):
        digests = [None if part.accuracy is None else part.accuracy.data_sha256 for part in evidence]
        same = digests[0] == digests[1] is not None
        rows += [
            _share("top-1", [record.top1[1] if record and record.top1 else None for record in records], same),
            _share("agreement with Keras", [record.agreement if record else None for record in records], same),
        ]
        images = [write.NOTHING if record is None else f"{record.images} images" for record in records]
        rows.append(_row("evaluated on", images, "" if same else "not the same images"))
    rows.append(_row("largest difference, FP32", [write.small(part.fp32_difference) for part in evidence]))
    rows += _differing([_recipe(part) for part in evidence])
    rows += _differing([dict(sorted(side.manifest.tools.items())) for side in sides])
    return tuple(rows)


def _row(name: str, values: Sequence[str], change: str = "") -> Row:
    return Row(name, values[0], values[1], change)


def _differing(texts: Sequence[dict[str, str]]) -> list[Row]:
    """Return a row for each key whose texts differ."""
    keys = dict.fromkeys((*texts[0], *texts[1]))
    pairs = {key: [text.get(key, write.NOTHING) for text in texts] for key in keys}
    return [_row(key, pair) for key, pair in pairs.items() if pair[0] != pair[1]]


def pace(left: Side, right: Side) -> str:
    """Return the second's time as a ratio of the first's, run by run, with the middle half of the ratios."""
    ratios = [after / before for before, after in zip(left.milliseconds, right.milliseconds, strict=True)]
    if len(ratios) < 2:
        return write.ratio(ratios[0]) if ratios else ""
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return f"{write.ratio(middle)} ({low:.2f}..{high:.2f})"


def layer_changes(left: Side, right: Side) -> tuple[tuple[str, float | None, float | None], ...]:
    """Return (layer, dB, dB) for layers whose noise differs by a decibel or more, the largest change first."""
    before, after = ({layer.layer: layer.sqnr_db for layer in side.noise} for side in (left, right))

    def distance(layer: str) -> float:
        return abs((after[layer] or 0) - (before[layer] or 0))

    changed = [layer for layer in before if layer in after and distance(layer) >= _SAME_DB]
    return tuple((layer, before[layer], after[layer]) for layer in sorted(changed, key=distance, reverse=True))


def render_comparison(left: Side, right: Side) -> str:
    """Return the page. Errors as :func:`compare_sides`."""
    changes = layer_changes(left, right)
    timed = [(f"{key} {side.manifest.name}", side.milliseconds) for key, side in (("A", left), ("B", right))]
    return write.render(
        "compare.html",
        left=left.manifest,
        right=right.manifest,
        rows=compare_sides(left, right),
        strips=strips(timed),
        changes=changes[:_LAYERS],
        changed=len(changes),
    )


def _input(manifest: Manifest) -> str:
    return "; ".join(f"{name} {described(part)}".strip() for name, part in parts_of(manifest.form))


def _comparison(evidence: Evidence, variant: Variant) -> ComparisonRecord | None:
    """Return the comparison of the variant's file with Keras on the evaluation images."""
    records = {record.candidate: record for record in evidence.comparison}
    return records.get(f"onnx-{variant.name}") or (evidence.comparison[-1] if records else None)


def _share(name: str, values: Sequence[float | None], same: bool) -> Row:
    left, right = values
    change = f"{write.points(right - left)} points" if same and left is not None and right is not None else ""
    return Row(name, write.percent(left), write.percent(right), change)


def _recipe(evidence: Evidence) -> dict[str, str]:
    recipe = evidence.recipe.items()
    return {
        key: ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value) for key, value in recipe
    }
