"""The ladder: try INT8 recipes from the cheapest on, and stop at the first that keeps the promise.

Every rung is judged on the selection images, which are neither calibration nor evaluation images. A rung that does not
help is taken back before the next is tried. :mod:`xxdeploy.quantize.effort` estimates each rung before it is climbed,
and passes over those whose gain the selection images could not show. The first rungs cost time at export only. The last
one, layers that stay in float, costs milliseconds on the device, so it is climbed only if --min-agreement or --max-drop
is violated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import OnProgress, Progress, Ranges, Rung
from xxdeploy.verify import Comparison, figure_verdict

with extra("export"):
    from xxdeploy.quantize.effort import CALIBRATOR, Effort, Estimate, estimate, is_worth, passed_over
    from xxdeploy.quantize.methods.method import Stage
    from xxdeploy.quantize.methods.registry import METHODS, methods_of, rungs_above
    from xxdeploy.quantize.recipe import QuantizationRecipe, with_float_layers

CALIBRATORS = ("percentile-99.99", "percentile-99.999", "percentile-99.9", "minmax", "mse", "entropy", "moving-average")
METHOD_OF = {rung: method for method in METHODS for rung in method.rungs}
RUNGS = (CALIBRATOR, *METHOD_OF)
"""The rungs that cost nothing on the device, in the order in which they are climbed."""
CHANGE_RANGES = frozenset(
    (CALIBRATOR, *(rung for rung, method in METHOD_OF.items() if method.stage is Stage.BEFORE_RANGES))
)
"""The rungs that have no effect where --ranges gives the ranges."""
FREE_AGREEMENT = 0.99
"""The agreement at which climbing stops if no promise asks for more."""
FEATURES_DB = 30.0
"""The same for features, which have no classes: the signal-to-noise ratio of the output."""
FREE_FIGURES = {"psnr": 40.0, "iou": 0.99}
"""The same for pictures and masks. Values, whose unit says nothing about them, have the ratio of features."""
_BETTER = 0.97
"""A rung helps if the KL divergence falls to this share of it; a smaller change is noise."""
_LEAST_DB = -10 * math.log10(_BETTER)
_PREVIEWED = 2
"""Of several recipes, so many are judged on all selection images: the best on a few of them."""
_CLOSE = 1.1
"""The second best is judged only if its loss on the few images is at most this multiple of the best one's."""
_FALLBACKS = 4
"""The largest number of times that layers are returned to float."""


@dataclass(frozen=True, slots=True)
class Goal:
    """The promises. ``agreement`` and ``drop`` are shares (0..1), None where the option was not given.

    ``enough`` is the agreement at which climbing stops if no promise asks for more. ``figures`` are limits of the
    promises about pictures, masks and values, by their option.
    """

    agreement: float | None = None
    drop: float | None = None
    enough: float = FREE_AGREEMENT
    figures: tuple[tuple[str, float], ...] = ()

    def holds(self, comparison: Comparison) -> bool:
        """Return True if there is no reason to climb on."""
        if comparison.figures and comparison.figures[0].name in FREE_FIGURES:
            figure = comparison.figures[0]
            return figure.value >= FREE_FIGURES[figure.name] and not self.is_broken(comparison)
        if comparison.agreement is None:
            is_close = comparison.sqnr_db is not None and comparison.sqnr_db >= FEATURES_DB
            return is_close and not self.is_broken(comparison)
        return comparison.agreement >= max(self.agreement or 0.0, self.enough) and not self.is_broken(comparison)

    def objection(self, comparison: Comparison, previous: Comparison) -> str:
        """Return why the rung is not worth taking, or "" if it is.

        It is if it lowers the KL divergence by 3 % or more, or meets the goal that ``previous`` missed. A difference of
        one image in a few hundred is chance, and of several calibrators one is lucky. So a rung that only meets the
        goal must not have a larger divergence, unless ``previous`` violates a promise. A rung that violates a promise
        which ``previous`` kept never helps.
        """
        if self.is_broken(comparison) and not self.is_broken(previous):
            return "it breaks a promise that was kept before"
        if loss(comparison) < _BETTER * loss(previous):
            return ""
        if self.holds(comparison) and (self.is_broken(previous) or loss(comparison) <= loss(previous)):
            return ""
        if comparison.loss is not None:
            return f"the error is not {100 - 100 * _BETTER:.0f} % lower"
        if comparison.kl_mean is None:
            return f"SQNR gains less than {_LEAST_DB:.1f} dB"
        return f"KL is not {100 - 100 * _BETTER:.0f} % lower"

    def is_broken(self, comparison: Comparison) -> bool:
        """Return True if the comparison violates a promise, --max-drop by more than the measurement noise.

        A drop counts once it exceeds the limit by its standard error: on few images one class more or less would
        otherwise return layers to float.
        """
        if self.agreement is not None and comparison.agreement is not None and comparison.agreement < self.agreement:
            return True
        if not all(figure_verdict(comparison, name, limit).kept for name, limit in self.figures):
            return True
        if self.drop is None or comparison.change is None:
            return False
        change = comparison.change
        deviation = (change.discordance / change.images) ** 0.5
        return -change.change > self.drop + deviation or (self.drop == 0 and change.change < 0)


@dataclass(frozen=True, slots=True)
class Trial:
    """A recipe, the INT8 model that it makes, and its comparison with the float model on the selection images."""

    recipe: QuantizationRecipe
    model: OnnxModel
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Climb:
    """The end of the climb: the best trial, whether the goal ``holds`` there, and all rungs that were tried.

    ``sentences`` tell of the rungs that were passed over.
    """

    best: Trial
    holds: bool
    rungs: tuple[Rung, ...]
    sentences: tuple[str, ...] = ()


Judge = Callable[[OnnxModel], Comparison]
Clock = Callable[[OnnxModel], tuple[float, float]]
"""Milliseconds of an INT8 model and of the float one, their runs interleaved."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures INT8 models: ``judge`` on all selection images, ``preview`` on a few of them, ``clock`` in time."""

    judge: Judge
    preview: Judge
    clock: Clock


class Builder(Protocol):
    """As much of :class:`~xxdeploy.exporter.quantizer.Quantizer` as the climb needs."""

    @property
    def given(self) -> Ranges | None:
        """The ranges of --ranges, which calibrators and methods before ranges cannot change."""
        ...

    def build(self, recipe: QuantizationRecipe) -> OnnxModel:
        """Return the INT8 model of ``recipe``."""
        ...

    def seconds(self, rung: str, recipe: QuantizationRecipe, per_image: float) -> float:
        """Return the expected seconds to build a rung, where INT8 takes ``per_image`` seconds for an image."""
        ...

    def worst_layers(self, recipe: QuantizationRecipe) -> frozenset[str]:
        """Return the layers that recover the most accuracy per cost when kept in float; empty if none do."""
        ...


def climb(
    quantizer: Builder,
    bench: Bench,
    goal: Goal,
    *,
    start: QuantizationRecipe,
    name: str,
    pinned: bool = False,
    effort: Effort = "normal",
    report: OnProgress = lambda _: None,
) -> Climb:
    """Climb from ``start`` (called ``name``) until ``goal`` holds; a ``pinned`` recipe is only measured."""
    climber = _Climber(quantizer, bench, goal, effort, report)
    best = climber.measure(name, [start])
    skipped: list[Estimate] = []
    for rung in () if pinned else RUNGS:
        fixed = quantizer.given is not None and rung in CHANGE_RANGES
        recipes = [] if fixed else proposals(rung, best.recipe)
        if goal.holds(best.comparison) or not recipes:
            continue
        expected = climber.expected(rung, recipes, best.comparison)
        if not is_worth(effort, expected, is_broken=goal.is_broken(best.comparison)):
            skipped.append(expected)
            continue
        trial = climber.measure(rung, recipes, best.comparison, expected)
        objection = goal.objection(trial.comparison, best.comparison)
        if objection:
            climber.leave(objection)
        else:
            best = trial
    for _ in range(0 if pinned else _FALLBACKS):
        layers = quantizer.worst_layers(best.recipe) if goal.is_broken(best.comparison) else frozenset()
        if not layers:
            break
        trial = climber.measure("float layers", [with_float_layers(best.recipe, layers)])
        if loss(trial.comparison) >= loss(best.comparison):
            climber.leave("more float layers do not lower the loss")
            break
        best = trial
    holds = goal.holds(best.comparison) or not goal.is_broken(best.comparison)
    return Climb(best, holds, tuple(climber.rungs), passed_over(effort, skipped))


class _Climber:
    """Builds, judges and notes rungs. ``rungs`` are those so far."""

    def __init__(self, quantizer: Builder, bench: Bench, goal: Goal, effort: Effort, report: OnProgress) -> None:
        self._quantizer, self._bench, self._goal = quantizer, bench, goal
        self._effort, self._report = effort, report
        self._per_image = 0.0
        self.rungs: list[Rung] = []

    def expected(self, rung: str, recipes: Sequence[QuantizationRecipe], previous: Comparison) -> Estimate:
        """Return the estimate of a rung, from the pace of the last one that was judged."""
        judged = min(len(recipes), _PREVIEWED) if self._previews(previous) else len(recipes)
        build = self._quantizer.seconds(rung, recipes[0], self._per_image)
        seconds = build + judged * previous.images * self._per_image
        return estimate(rung, previous.agreement, previous.images, seconds)

    def measure(
        self,
        rung: str,
        recipes: Sequence[QuantizationRecipe],
        previous: Comparison | None = None,
        expected: Estimate | None = None,
    ) -> Trial:
        """Build and judge ``recipes``, note the best as a rung, and return it."""
        step = f"rung {rung}" if expected is None else f"rung {rung}: {expected}"
        self._report(Progress(step, 0, 1))
        began = time.perf_counter()
        if self._previews(previous) and len(recipes) > _PREVIEWED:
            recipes = self._best_of_preview(recipes)
        best: Trial | None = None
        for recipe in recipes:  # only the best of all models stays in memory
            model = self._quantizer.build(recipe)
            judged = time.perf_counter()
            trial = Trial(recipe, model, self._bench.judge(model))
            self._per_image = (time.perf_counter() - judged) / trial.comparison.images
            if best is None or self._rank(trial.comparison, previous) < self._rank(best.comparison, previous):
                best = trial
        assert best is not None
        last = self.rungs[-1] if self.rungs and rung in RUNGS else None  # such a rung has the kernels of the last one
        times = (last.milliseconds, last.float_milliseconds) if last else self._bench.clock(best.model)
        seconds = time.perf_counter() - began
        record = Rung(rung, True, best.comparison.record, *times, seconds)
        if expected is not None:
            record = replace(record, expected_seconds=expected.seconds, expected_gain=expected.gain)
        self.rungs.append(record)
        self._report(Progress(step, 1, 1))
        return best

    def _previews(self, previous: Comparison | None) -> bool:
        """Return whether a few images choose among recipes; where a promise is broken, each has its full chance."""
        return self._effort != "thorough" and not (previous is not None and self._goal.is_broken(previous))

    def leave(self, reason: str) -> None:
        """Note that the last rung was not taken."""
        self.rungs[-1] = replace(self.rungs[-1], taken=False, reason=reason)

    def _best_of_preview(self, recipes: Sequence[QuantizationRecipe]) -> list[QuantizationRecipe]:
        """Return the recipes that are best on a few images.

        One round of successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): the divergences of recipes on
        the same images differ far less by chance than their sum does.
        """
        ranks = {recipe: loss(self._bench.preview(self._quantizer.build(recipe))) for recipe in recipes}
        ranked = sorted(ranks, key=ranks.__getitem__)[:_PREVIEWED]
        return [recipe for recipe in ranked if ranks[recipe] <= _CLOSE * ranks[ranked[0]]]

    def _rank(self, comparison: Comparison, previous: Comparison | None) -> tuple[bool, float]:
        goal = self._goal
        helps = goal.holds(comparison) and (previous is None or not goal.objection(comparison, previous))
        return not helps, loss(comparison)


def loss(comparison: Comparison) -> float:
    """Return the figure that rungs are compared by.

    For pictures, masks and values it is that of their measure, for classes the mean KL divergence, for features the
    noise-to-signal ratio: all are far less noisy than counts of classes.
    """
    if comparison.loss is not None:
        return comparison.loss
    if comparison.kl_mean is not None:
        return comparison.kl_mean
    return 10 ** (-(comparison.sqnr_db if comparison.sqnr_db is not None else 0.0) / 10)


def proposals(rung: str, recipe: QuantizationRecipe) -> list[QuantizationRecipe]:
    """Return the recipes that a rung tries on top of ``recipe``; none if that has the rung's settings already.

    Calibrators are swept before any method after ranges, since each calibrator needs a bias correction of its own. They
    are swept again with each method before ranges: the changed weights have other ranges, for which another calibrator
    may be the best.
    """
    is_swept = not methods_of(recipe, Stage.AFTER_RANGES)
    calibrators = tuple(dict.fromkeys((recipe.calibrator, *CALIBRATORS))) if is_swept else (recipe.calibrator,)
    if rung == CALIBRATOR:
        return [replace(recipe, calibrator=name) for name in calibrators[1:]]
    method = METHOD_OF[rung]
    changed = dict(rungs_above(recipe, method.stage)).get(rung)
    if changed is None:
        return []
    if method.stage is Stage.AFTER_RANGES:
        return [changed]
    return [replace(changed, calibrator=name) for name in calibrators]
