"""The ladder: climb from the cheapest INT8 to the one that keeps its promise, and stop there.

Every rung is judged on images that were neither calibrated on nor will be evaluated on. A rung that does not help is
taken back before the next is tried. The first rungs cost time at export only; the last, layers that stay in float,
costs milliseconds on the device for good, so it is climbed only where a promise was given in so many words and is
broken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xxdeploy.exporter.quantizer import Workshop
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import OnProgress, Progress, Rung
from xxdeploy.verify import Comparison

with extra("export"):
    from xxdeploy.quantize.measure.rank import IMAGES, rank_layers
    from xxdeploy.quantize.recipe import QuantizationRecipe, with_float_layers

log = logging.getLogger(__name__)

CALIBRATORS = ("percentile-99.99", "percentile-99.999", "percentile-99.9", "minmax", "mse", "entropy", "moving-average")
RUNGS = ("calibrator", "equalization", "bias correction", "rounding")
"""The rungs that cost nothing on the device, in the order in which they are climbed."""
CHANGE_RANGES = frozenset(("calibrator", "equalization"))
"""Of these, those that mean nothing where the ranges are given."""
FREE_AGREEMENT = 0.99
"""Agreement at which climbing stops where no promise asks for more."""
FEATURES_DB = 30.0
"""The same for features, which have no classes: signal-to-noise ratio of the output."""
_BETTER = 0.97
"""A rung helps if it takes this much of the divergence away; less is noise."""
_FALLBACKS = 4
"""Times that layers are put back to float, each time the best by measurement."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is promised. ``agreement`` and ``drop`` are shares (0..1), None where nothing was said."""

    agreement: float | None = None
    drop: float | None = None

    def holds(self, found: Comparison) -> bool:
        """Tell whether there is no reason to climb on."""
        if found.agreement is None:
            return found.sqnr_db is not None and found.sqnr_db >= FEATURES_DB
        enough = max(self.agreement or 0.0, FREE_AGREEMENT)
        return found.agreement >= enough and not self.is_broken(found)

    def prefers(self, found: Comparison, before: Comparison) -> bool:
        """Tell whether a rung helps: by its divergence, or as it holds where what came before did not.

        One class of some hundred more or less is chance, and of several calibrators one has it: so the divergence must
        not be worse then, unless a promise is broken without the rung. Nothing helps that breaks one.
        """
        if self.is_broken(found) and not self.is_broken(before):
            return False
        if loss(found) < _BETTER * loss(before):
            return True
        return self.holds(found) and (self.is_broken(before) or loss(found) <= loss(before))

    def is_broken(self, found: Comparison) -> bool:
        """Tell whether what was promised in words is measurably not kept.

        A drop is believed once it exceeds the limit by its standard error: on few images one class more or less would
        otherwise put layers back to float.
        """
        if self.agreement is not None and found.agreement is not None and found.agreement < self.agreement:
            return True
        if self.drop is None or found.change is None:
            return False
        change = found.change
        deviation = (change.discordance / change.images) ** 0.5
        return -change.change > self.drop + deviation or (self.drop == 0 and change.change < 0)


@dataclass(frozen=True, slots=True)
class Climb:
    """Where the climb ended: the recipe, its model, whether the goal ``holds`` there, and all rungs tried."""

    recipe: QuantizationRecipe
    model: OnnxModel
    comparison: Comparison
    holds: bool
    rungs: tuple[Rung, ...]


Judge = Callable[[OnnxModel], Comparison]
Clock = Callable[[OnnxModel], tuple[float, float]]
"""Milliseconds of an INT8 model and of the float one, measured in turn."""


def climb(
    workshop: Workshop,
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

    def measure(
        rung: str, recipes: Sequence[QuantizationRecipe], before: Comparison | None = None
    ) -> tuple[QuantizationRecipe, OnnxModel, Comparison]:
        """Make and judge ``recipes``, note the best as a rung, and return it."""

        def rank(found: Comparison) -> tuple[bool, float]:
            return not (goal.holds(found) and (before is None or goal.prefers(found, before))), loss(found)

        report(Progress(f"rung {rung}", 0, 1))
        began = time.perf_counter()
        best = None
        for recipe in recipes:  # of all that are tried only the best stays in memory
            model = workshop.build(recipe)
            found = judge(model)
            if best is None or rank(found) < rank(best[2]):
                best = recipe, model, found
        assert best is not None
        ours, floats = clock(best[1])
        rungs.append(Rung(rung, True, best[2].record, ours, floats, time.perf_counter() - began))
        report(Progress(f"rung {rung}", 1, 1))
        return best

    now = measure(name, [start])
    for rung in () if pinned else RUNGS:
        fixed = workshop.given is not None and rung in CHANGE_RANGES
        recipes = [] if fixed else proposals(rung, now[0])
        if goal.holds(now[2]) or not recipes:
            continue
        found = measure(rung, recipes, now[2])
        if goal.prefers(found[2], now[2]):
            now = found
        else:
            rungs[-1] = replace(rungs[-1], taken=False)
    for _ in range(0 if pinned else _FALLBACKS):
        if not goal.is_broken(now[2]):
            break
        layers = _worst_layers(workshop, now[0], report)
        if not layers:
            break
        found = measure("float layers", [with_float_layers(now[0], layers)])
        if loss(found[2]) >= loss(now[2]):
            rungs[-1] = replace(rungs[-1], taken=False)
            break
        now = found
    holds = goal.holds(now[2]) or not goal.is_broken(now[2])
    return Climb(now[0], now[1], now[2], holds, tuple(rungs))


def loss(found: Comparison) -> float:
    """Return what rungs are compared by: mean KL divergence, or the noise of features. Far less noisy than classes."""
    if found.kl_mean is not None:
        return found.kl_mean
    return 10 ** (-(found.sqnr_db if found.sqnr_db is not None else 0.0) / 10)


def proposals(rung: str, now: QuantizationRecipe) -> list[QuantizationRecipe]:
    """Return what a rung tries on top of ``now``; nothing where that has it already.

    Calibrators are swept before biases are corrected: each would need a correction of its own.
    """
    plain = now.bias_correction == "none"
    if rung == "calibrator":
        return [replace(now, calibrator=each) for each in CALIBRATORS if plain and each != now.calibrator]
    if rung == "equalization":
        # Other ranges may ask for another calibrator: what was chosen before made the best of an outlier.
        calibrators = dict.fromkeys((now.calibrator, *CALIBRATORS) if plain else (now.calibrator,))
        return [] if now.equalization else [replace(now, equalization=True, calibrator=each) for each in calibrators]
    if rung == "bias correction":
        return [replace(now, bias_correction="empirical")] if plain else []
    done = now.rounding == "adaptive"
    return [] if done else [replace(now, bias_correction="empirical", rounding="adaptive")]


def _worst_layers(workshop: Workshop, recipe: QuantizationRecipe, report: OnProgress) -> frozenset[str]:
    """Return the layers whose return to float helps most, for what they are; nothing where none helps."""
    plain = replace(recipe, bias_correction="none", rounding="nearest")  # a correction is right for one choice only
    model, ranges = workshop.float_model(plain), workshop.ranges(plain)
    found = rank_layers(
        model,
        ranges,
        workshop.scheme(plain),
        workshop.some(IMAGES),
        build=lambda asked: workshop.write(model, ranges, asked),
        on_progress=report,
    )
    return frozenset(found[0].layers) if found else frozenset()
