"""The ladder: try INT8 recipes from the cheapest on, and stop at the first that keeps the promise.

Every rung is judged on the selection images, which are neither calibration nor evaluation images. A rung that does not
help is taken back before the next is tried. The first rungs cost time at export only. The last one, layers that stay in
float, costs milliseconds on the device, so it is climbed only if --min-agreement or --max-drop is violated.
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
from xxdeploy.verify import Comparison

with extra("export"):
    from xxdeploy.quantize.methods.method import Stage
    from xxdeploy.quantize.methods.registry import METHODS, methods_of
    from xxdeploy.quantize.recipe import QuantizationRecipe, with_float_layers

CALIBRATORS = ("percentile-99.99", "percentile-99.999", "percentile-99.9", "minmax", "mse", "entropy", "moving-average")
METHOD_OF = {rung: method for method in METHODS for rung in method.rungs}
RUNGS = ("calibrator", *METHOD_OF)
"""The rungs that cost nothing on the device, in the order in which they are climbed."""
CHANGE_RANGES = frozenset(
    ("calibrator", *(rung for rung, method in METHOD_OF.items() if method.stage is Stage.BEFORE_RANGES))
)
"""The rungs that have no effect where --ranges gives the ranges."""
FREE_AGREEMENT = 0.99
"""The agreement at which climbing stops if no promise asks for more."""
FEATURES_DB = 30.0
"""The same for features, which have no classes: the signal-to-noise ratio of the output."""
_BETTER = 0.97
"""A rung helps if the KL divergence falls to this share of it; a smaller change is noise."""
_LEAST_DB = -10 * math.log10(_BETTER)
_FALLBACKS = 4
"""The largest number of times that layers are returned to float."""


@dataclass(frozen=True, slots=True)
class Goal:
    """The promises. ``agreement`` and ``drop`` are shares (0..1), None where the option was not given.

    ``enough`` is the agreement at which climbing stops if no promise asks for more.
    """

    agreement: float | None = None
    drop: float | None = None
    enough: float = FREE_AGREEMENT

    def holds(self, comparison: Comparison) -> bool:
        """Return True if there is no reason to climb on."""
        if comparison.agreement is None:
            return comparison.sqnr_db is not None and comparison.sqnr_db >= FEATURES_DB
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
        if comparison.kl_mean is None:
            return f"SQNR gains less than {_LEAST_DB:.1f} dB"
        return f"KL is not {100 - 100 * _BETTER:.0f} % lower"

    def is_broken(self, comparison: Comparison) -> bool:
        """Return True if the comparison violates --min-agreement or --max-drop by more than the measurement noise.

        A drop counts once it exceeds the limit by its standard error: on few images one class more or less would
        otherwise return layers to float.
        """
        if self.agreement is not None and comparison.agreement is not None and comparison.agreement < self.agreement:
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
    """The end of the climb: the best trial, whether the goal ``holds`` there, and all rungs that were tried."""

    best: Trial
    holds: bool
    rungs: tuple[Rung, ...]


Judge = Callable[[OnnxModel], Comparison]
Clock = Callable[[OnnxModel], tuple[float, float]]
"""Milliseconds of an INT8 model and of the float one, their runs interleaved."""


class Builder(Protocol):
    """As much of :class:`~xxdeploy.exporter.quantizer.Quantizer` as the climb needs."""

    @property
    def given(self) -> Ranges | None:
        """The ranges of --ranges, which calibrators and methods before ranges cannot change."""
        ...

    def build(self, recipe: QuantizationRecipe) -> OnnxModel:
        """Return the INT8 model of ``recipe``."""
        ...

    def worst_layers(self, recipe: QuantizationRecipe) -> frozenset[str]:
        """Return the layers that recover the most accuracy per cost when kept in float; empty if none do."""
        ...


def climb(
    quantizer: Builder,
    judge: Judge,
    clock: Clock,
    goal: Goal,
    *,
    start: QuantizationRecipe,
    name: str,
    pinned: bool = False,
    report: OnProgress = lambda _: None,
) -> Climb:
    """Climb from ``start`` (called ``name``) until ``goal`` holds; a ``pinned`` recipe is only measured."""
    rungs: list[Rung] = []

    def measure(rung: str, recipes: Sequence[QuantizationRecipe], previous: Comparison | None = None) -> Trial:
        """Build and judge ``recipes``, note the best as a rung, and return it."""

        def rank(trial: Trial) -> tuple[bool, float]:
            comparison = trial.comparison
            helps = goal.holds(comparison) and (previous is None or not goal.objection(comparison, previous))
            return not helps, loss(comparison)

        report(Progress(f"rung {rung}", 0, 1))
        began = time.perf_counter()
        best: Trial | None = None
        for recipe in recipes:  # only the best of all models stays in memory
            model = quantizer.build(recipe)
            trial = Trial(recipe, model, judge(model))
            if best is None or rank(trial) < rank(best):
                best = trial
        assert best is not None
        ours, floats = clock(best.model)
        rungs.append(Rung(rung, True, best.comparison.record, ours, floats, time.perf_counter() - began))
        report(Progress(f"rung {rung}", 1, 1))
        return best

    best = measure(name, [start])
    for rung in () if pinned else RUNGS:
        fixed = quantizer.given is not None and rung in CHANGE_RANGES
        recipes = [] if fixed else proposals(rung, best.recipe)
        if goal.holds(best.comparison) or not recipes:
            continue
        trial = measure(rung, recipes, best.comparison)
        objection = goal.objection(trial.comparison, best.comparison)
        if objection:
            rungs[-1] = replace(rungs[-1], taken=False, reason=objection)
        else:
            best = trial
    for _ in range(0 if pinned else _FALLBACKS):
        layers = quantizer.worst_layers(best.recipe) if goal.is_broken(best.comparison) else frozenset()
        if not layers:
            break
        trial = measure("float layers", [with_float_layers(best.recipe, layers)])
        if loss(trial.comparison) >= loss(best.comparison):
            rungs[-1] = replace(rungs[-1], taken=False, reason="more float layers do not lower the loss")
            break
        best = trial
    holds = goal.holds(best.comparison) or not goal.is_broken(best.comparison)
    return Climb(best, holds, tuple(rungs))


def loss(comparison: Comparison) -> float:
    """Return the figure that rungs are compared by: the mean KL divergence, or the noise-to-signal ratio of features.

    Both are far less noisy than counts of classes.
    """
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
    if rung == "calibrator":
        return [replace(recipe, calibrator=name) for name in calibrators[1:]]
    method = METHOD_OF[rung]
    changed = replace(recipe, **method.rungs[rung])
    if changed == recipe:
        return []
    if method.stage is Stage.AFTER_RANGES:
        return [changed]
    return [replace(changed, calibrator=name) for name in calibrators]
