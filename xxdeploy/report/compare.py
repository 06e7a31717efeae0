"""Two bundles side by side, as rows for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from xxdeploy.report import format as write
from xxdeploy.report.plots import strips
from xxdeploy.report.template import environment
from xxdeploy.results import LayerNoise
from xxdeploy.runtime.bundle.manifest import Manifest, Variant

_LAYERS = 20
_SAME_DB = 1.0
"""Layers whose noise differs by less are not listed."""


@dataclass(frozen=True, slots=True)
class Side:
    """One bundle: its manifest, the variant that this processor runs, its layers' noise, and milliseconds of runs.

    Times of both sides are taken in turn; empty where nothing was run.
    """

    manifest: Manifest
    variant: Variant
    noise: tuple[LayerNoise, ...] = ()
    milliseconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One property: ``left``, ``right``, and ``change`` in words, empty where there is none to tell."""

    name: str
    left: str
    right: str
    change: str = ""


def compare_sides(left: Side, right: Side) -> tuple[Row, ...]:
    """Return what the two have in common and what not: the same properties in the same order for any two."""
    sides = (left, right)
    rows = [
        _row("network", [str(each.manifest.source.get("model", write.NOTHING)) for each in sides]),
        _row("input", [_input(each.manifest) for each in sides]),
        _row("variant here", [f"{each.variant.name}, {each.variant.scheme}" for each in sides]),
    ]
    sizes = [next(entry.size for entry in each.manifest.files if entry.path == each.variant.model) for each in sides]
    rows.append(_row("size", [write.megabytes(size) for size in sizes], write.ratio(sizes[1] / sizes[0])))
    if left.milliseconds and right.milliseconds:
        rows.append(
            _row("time here, p50", [write.milliseconds(median(each.milliseconds)) for each in sides], pace(*sides))
        )
    found = [_comparison(each) for each in sides]
    if any(found):
        same = _same_images(left.manifest, right.manifest)
        rows += [
            _share("top-1", [None if each is None or "top1" not in each else each["top1"][1] for each in found], same),
            _share("agreement with Keras", [None if each is None else each.get("agreement") for each in found], same),
        ]
        rows.append(_row("evaluated on", [_images(each) for each in found], "" if same else "not the same images"))
    rows.append(_row("largest difference, FP32", [write.small(_difference(each.manifest)) for each in sides]))
    recipes = [_recipe(each.manifest) for each in sides]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    rows += [
        _row(key, [recipe.get(key, write.NOTHING) for recipe in recipes])
        for key in keys
        if recipes[0].get(key) != recipes[1].get(key)
    ]
    tools = sorted(set(left.manifest.tools) | set(right.manifest.tools))
    rows += [
        _row(tool, [each.manifest.tools.get(tool, write.NOTHING) for each in sides])
        for tool in tools
        if left.manifest.tools.get(tool) != right.manifest.tools.get(tool)
    ]
    return tuple(rows)


def _row(name: str, values: Sequence[str], change: str = "") -> Row:
    return Row(name, values[0], values[1], change)


def pace(left: Side, right: Side) -> str:
    """Return the second's time as a ratio of the first's, run by run, with the middle half of the ratios."""
    ratios = [after / before for before, after in zip(left.milliseconds, right.milliseconds, strict=True)]
    if len(ratios) < 2:
        return write.ratio(ratios[0]) if ratios else ""
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return f"{write.ratio(middle)} ({low:.2f}..{high:.2f})"


def layer_changes(left: Side, right: Side) -> tuple[tuple[str, float | None, float | None], ...]:
    """Return (layer, dB, dB) where the noise differs by a decibel or more, the largest change first."""
    before = {each.layer: each.sqnr_db for each in left.noise}
    after = {each.layer: each.sqnr_db for each in right.noise}
    both = [(name, before[name], after[name]) for name in before if name in after]
    changed = [each for each in both if abs((each[2] or 0) - (each[1] or 0)) >= _SAME_DB]
    return tuple(sorted(changed, key=lambda each: -abs((each[2] or 0) - (each[1] or 0))))


def render_comparison(left: Side, right: Side) -> str:
    """Return the page."""
    changes = layer_changes(left, right)
    timed = [(f"{key} {each.manifest.name}", each.milliseconds) for key, each in (("A", left), ("B", right))]
    return (
        environment()
        .get_template("compare.html")
        .render(
            left=left.manifest,
            right=right.manifest,
            rows=compare_sides(left, right),
            strips=strips(timed),
            changes=changes[:_LAYERS],
            changed=len(changes),
        )
    )


def _input(manifest: Manifest) -> str:
    how = manifest.preprocess
    return f"{how.height} x {how.width} x {how.channels}, {how.mode}, {how.resize}"


def _comparison(side: Side) -> Mapping[str, Any] | None:
    """Return how the variant's file compared with Keras on the evaluation images."""
    evidence: Mapping[str, Any] = side.manifest.evidence
    found = {each["candidate"]: each for each in evidence.get("comparison") or ()}
    return found.get(f"onnx-{side.variant.name}") or (list(found.values())[-1] if found else None)


def _same_images(left: Manifest, right: Manifest) -> bool:
    digests = [_evaluated(each).get("data_sha256") for each in (left, right)]
    return digests[0] == digests[1] is not None


def _evaluated(manifest: Manifest) -> Mapping[str, Any]:
    evidence: Mapping[str, Any] = manifest.evidence
    return evidence.get("accuracy") or {}


def _images(facts: Mapping[str, Any] | None) -> str:
    return write.NOTHING if facts is None else f"{facts['images']} images"


def _share(name: str, values: Sequence[float | None], same: bool) -> Row:
    left, right = values
    change = f"{write.points(right - left)} points" if same and left is not None and right is not None else ""
    return Row(name, write.percent(left), write.percent(right), change)


def _difference(manifest: Manifest) -> float | None:
    evidence: Mapping[str, Any] = manifest.evidence
    found = [each["max_abs"] for each in evidence.get("parity") or () if "fp32" in each["candidate"]]
    return max(found, default=None)


def _recipe(manifest: Manifest) -> dict[str, str]:
    evidence: Mapping[str, Any] = manifest.evidence
    recipe: Mapping[str, Any] = evidence.get("recipe") or {}
    return {key: ", ".join(value) or "none" if isinstance(value, list) else str(value) for key, value in recipe.items()}
