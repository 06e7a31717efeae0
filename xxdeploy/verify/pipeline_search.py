"""Find the pipeline that labeled pictures support, in stages: few pictures for large errors, more for small ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets import ImageSet
from xxdeploy.datasets.images import EVALUATION_BATCH, batch_that_fits
from xxdeploy.results import OnProgress, Progress, Runner
from xxdeploy.runtime.image.picture import DROP, open_picture
from xxdeploy.runtime.image.preprocess import MAX_PIXELS
from xxdeploy.verify.outputs import run_finite
from xxdeploy.verify.pipelines import (
    ASPECTS,
    SIGNIFICANT,
    Aspect,
    Diagnosis,
    Pipeline,
    Rival,
    few_sizings_from,
    filters_from,
    geometries_from,
    scalings_from,
    sizings_from,
    usual_channels,
)
from xxdeploy.verify.statistics import PairedChange, change_from_counts, wilson_interval

_STARTS = 3
"""Scalings that are tried with each sizing."""
FEW, MANY = 100, 300
"""Pictures that decide the scaling and the order of the classes, and all others."""


@dataclass(slots=True)
class Search:
    """Measures pipelines on labeled pictures, each on each picture once.

    ``truths`` has the class of each of ``images`` under each order of the classes. ``size`` is (height, width,
    channels) of the input, ``background`` the color under transparent pixels. ``is_short``: only the most usual
    sizings; ``keeps_size``: only the one of the start.
    """

    runner: Runner
    images: ImageSet
    truths: Mapping[str, Sequence[int]]
    size: tuple[int, int, int]
    report: OnProgress
    is_short: bool = False
    keeps_size: bool = False
    background: str = DROP
    _answers: dict[Pipeline, NDArray[np.intp]] = field(default_factory=dict)

    def find(self, given: Pipeline | None, start: Pipeline) -> Diagnosis:
        """Return the best pipeline. ``given`` is the one in use, if any; the search begins at ``start``.

        ``UsageError``, ``VerificationError``: those of ``open_picture`` and ``run_finite``.
        """
        many = min(MANY, len(self.images))
        few = min(FEW, many)
        scalings = self._ranked("scaling", scalings_from(start), few)
        # The right scaling may only show with the right sizing, so several scalings are tried with each sizing.
        starts = dict.fromkeys([*([given] if given else []), *scalings[: 1 if self.is_short else _STARTS]])
        probes = [each for one in starts for each in self._probes(one)]
        best = self._ranked("probe", probes, few)[0]
        if not self.is_short:
            best = self._ranked("scaling", scalings_from(best), few)[0]
            best = self._ranked("size", self._sizings(best), many)[0]
        if not self.is_short and not self.keeps_size:
            best = self._ranked("filter", filters_from(best), many)[0]
            best = self._ranked("geometry", geometries_from(best), many)[0]
        judged = [self._aspect(name, best, given, start, many, few) for name in ASPECTS]
        return self._diagnosis(given, best, start, tuple(filter(None, judged)), many)

    def measure(self, pipeline: Pipeline) -> float:
        """Return the top-1 of one pipeline on all pictures, at most ``MANY``."""
        count = min(MANY, len(self.images))
        self._measure("as given", [pipeline], count)
        return self.top1(pipeline, count)

    def _probes(self, start: Pipeline) -> list[Pipeline]:
        filters = [] if self.is_short or self.keeps_size else filters_from(start)
        return list(dict.fromkeys([*([start] if self.keeps_size else few_sizings_from(start)), *filters]))

    def _sizings(self, start: Pipeline) -> list[Pipeline]:
        if self.keeps_size:
            return [start]
        return (few_sizings_from if self.is_short else sizings_from)(start)

    def top1(self, pipeline: Pipeline, count: int) -> float:
        """Return the share of the first ``count`` pictures that the pipeline names right."""
        return float(self._right(pipeline, count).mean())

    def _diagnosis(
        self, given: Pipeline | None, best: Pipeline, start: Pipeline, aspects: tuple[Aspect, ...], many: int
    ) -> Diagnosis:
        chosen = _chosen(start, best, aspects)
        self._measure("check", [chosen, *([given] if given else [])], many)
        top1, usual = self.top1(chosen, many), self._most_usual(best, many)
        tried = len(self._answers)
        low = wilson_interval(round(self.top1(best, many) * many), many, confidence=1 - SIGNIFICANT / tried).low
        change = None if given is None else self._change(given, chosen, many)
        return Diagnosis(
            many,
            tried,
            given,
            None if given is None else self.top1(given, many),
            chosen,
            top1,
            self.top1(best, many),
            change,
            usual,
            low > usual,
            aspects,
        )

    def _most_usual(self, pipeline: Pipeline, count: int) -> float:
        return max(Counter(self.truths[pipeline.classes][:count]).values()) / count

    def _ranked(self, step: str, pipelines: Sequence[Pipeline], count: int) -> list[Pipeline]:
        """Return the pipelines, each with its best order of the classes, by their top-1; of equals the first."""
        self._measure(step, pipelines, count)
        orders = list(dict.fromkeys([pipelines[0].classes, *self.truths]))
        ordered = [[replace(each, classes=order) for order in orders] for each in pipelines]
        best = [max(same, key=lambda each: self.top1(each, count)) for same in ordered]
        return sorted(best, key=lambda each: -self.top1(each, count))

    def _aspect(
        self, name: str, best: Pipeline, given: Pipeline | None, start: Pipeline, many: int, few: int
    ) -> Aspect | None:
        """Compare the best pipeline with those that have another value of one aspect."""
        rivals, count = self._rivals(name, best, many, few)
        if not rivals:
            return None
        self._measure(name, [best, *rivals.values()], count)
        judged = []
        for value, rival in rivals.items():
            change = self._change(best, rival, count)
            excluded = change.lost > change.gained and change.p_value * len(rivals) < SIGNIFICANT
            judged.append(Rival(value, self.top1(rival, count), change, excluded))
        judged.sort(key=lambda rival: -rival.top1)
        prior = start if given is None and name in ("resample", "resize", "classes") else given
        value, before = best.aspect(name), None if prior is None else prior.aspect(name)
        kept = any(rival.value == before and not rival.excluded for rival in judged)
        return Aspect(name, value, before, before if kept and before is not None else value, tuple(judged))

    def _rivals(self, name: str, best: Pipeline, many: int, few: int) -> tuple[dict[str, Pipeline], int]:
        """Return the pipelines to compare with by their value, and on how many pictures."""
        if name == "classes":
            return {order: replace(best, classes=order) for order in self.truths if order != best.classes}, many
        if name == "channels":
            other = {"rgb": "bgr", "bgr": "rgb"}.get(best.channels)
            return ({} if other is None else {other: replace(best, channels=other)}), few
        if name == "scaling":
            others = [each for each in scalings_from(best) if each.scaling != best.scaling]
            self._measure(name, others, few)
            scalings = dict.fromkeys(each.scaling for each in others)
            same = {s: [each for each in others if each.scaling == s] for s in scalings}
            return {s: max(same[s], key=lambda each: self._right(each, few).sum()) for s in scalings}, few
        if self.keeps_size or self.is_short:
            kept = [each for each in self._sizings(best) if _differs_only(name, each, best)]
        else:
            kept = [each for each in (filters_from if name == "resample" else geometries_from)(best) if each != best]
        return {each.aspect(name): each for each in kept}, many

    def _change(self, reference: Pipeline, candidate: Pipeline, count: int) -> PairedChange:
        before, after = self._right(reference, count), self._right(candidate, count)
        return change_from_counts(int((after & ~before).sum()), int((before & ~after).sum()), count)

    def _right(self, pipeline: Pipeline, count: int) -> NDArray[np.bool_]:
        truth = np.asarray(self.truths[pipeline.classes][:count])
        return np.asarray(self._answers[replace(pipeline, classes="")][:count] == truth)

    def _measure(self, step: str, pipelines: Sequence[Pipeline], count: int) -> None:
        """Run the pipelines that have not seen ``count`` pictures yet; each picture is decoded once."""
        wanted = [replace(each, classes="") for each in pipelines]
        missing = [each for each in dict.fromkeys(wanted) if len(self._answers.get(each, ())) < count]
        if not missing:
            return
        found: dict[Pipeline, list[NDArray[np.intp]]] = {each: [] for each in missing}
        plans = {each: each.preprocess(self.size) for each in missing}
        mode = "L" if self.size[2] == 1 else "RGB"
        batch = batch_that_fits(EVALUATION_BATCH, self.size[0] * self.size[1])
        for first in range(0, count, batch):
            files = self.images.files[first : min(first + batch, count)]
            pictures = [np.asarray(open_picture(file, mode, MAX_PIXELS, self.background)[0]) for file in files]
            pixels = {}
            for each, preprocess in plans.items():
                if each.sizing not in pixels:
                    pixels[each.sizing] = preprocess.pixels(pictures)
                rows = run_finite(self.runner, preprocess.normalize(pixels[each.sizing]), first)
                found[each].append(rows.argmax(1))
            self.report(Progress(f"diagnose {step}", min(first + batch, count), count))
        self._answers |= {each: np.concatenate(parts) for each, parts in found.items()}


def _differs_only(name: str, one: Pipeline, other: Pipeline) -> bool:
    rest = "resize" if name == "resample" else "resample"
    return one.aspect(name) != other.aspect(name) and one.aspect(rest) == other.aspect(rest)


def _chosen(start: Pipeline, best: Pipeline, aspects: tuple[Aspect, ...]) -> Pipeline:
    """Return ``best`` with the values of ``start`` wherever the pictures do not exclude these."""
    kept = {aspect.name for aspect in aspects if aspect.chosen == aspect.given}
    chosen, open_channels = best, any(aspect.name == "channels" and aspect.ties for aspect in aspects)
    if "classes" in kept:
        chosen = replace(chosen, classes=start.classes)
    if "scaling" in kept:
        chosen = replace(chosen, scaling=start.scaling, own=start.own)
    if open_channels:
        same = "scaling" in kept or start.scaling == best.scaling
        chosen = replace(chosen, channels=start.channels if same else usual_channels(chosen.scaling))
    if "resize" in kept and "resample" in kept:
        return replace(chosen, sizing=start.sizing)
    if "resample" in kept and (chosen.sizing.resize, start.sizing.has_fractions) != ("fit", True):
        chosen = replace(chosen, sizing=replace(chosen.sizing, resample=start.sizing.resample))
    if "resize" in kept and (start.sizing.resize, chosen.sizing.has_fractions) != ("fit", True):
        chosen = replace(chosen, sizing=replace(start.sizing, resample=chosen.sizing.resample))
    return chosen
