"""All accuracy methods, and the recipe settings that switch each of them on.

The quantizer applies the methods that a recipe asks for, and the ladder tries their rungs; both read this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xxdeploy.quantize.methods.equalize import equalize
from xxdeploy.quantize.methods.method import Apply, Stage
from xxdeploy.quantize.methods.reconstruct import reconstruct
from xxdeploy.quantize.recipe import QuantizationRecipe


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One accuracy method.

    ``images`` is the number of calibration images that it sees. ``rungs`` maps the name of each rung of the ladder to
    the fields of :class:`QuantizationRecipe` that the rung sets, the cheapest first; with the fields' defaults the
    method is off. ``passes`` maps each rung to its time for one image, as a multiple of running the INT8 model on it;
    ``gains`` to the share (0..1) of the KL divergence that it is expected to take away.
    """

    apply: Apply
    stage: Stage
    images: int
    rungs: Mapping[str, Mapping[str, Any]]
    passes: Mapping[str, float]
    gains: Mapping[str, float]

    @property
    def fields(self) -> frozenset[str]:
        """The fields of the recipe that belong to this method."""
        return frozenset(name for values in self.rungs.values() for name in values)

    def is_asked(self, recipe: QuantizationRecipe) -> bool:
        """Return True if ``recipe`` switches the method on."""
        return any(getattr(recipe, name) != getattr(_PLAIN, name) for name in self.fields)


METHODS = (
    Method(
        equalize,
        Stage.BEFORE_RANGES,
        200,
        {"equalization": {"equalization": True}},
        passes={"equalization": 3.0},
        gains={"equalization": 0.1},
    ),
    # Each shift is a mean over images: with 96 of them MobileNetV2 diverges by 0.0040 nats, with 256 by 0.0037.
    Method(
        reconstruct,
        Stage.AFTER_RANGES,
        192,
        {
            "analytic correction": {"bias_correction": "analytic"},
            "bias correction": {"bias_correction": "empirical"},
            "rounding": {"bias_correction": "empirical", "rounding": "adaptive"},
        },
        passes={"analytic correction": 3.0, "bias correction": 4.0, "rounding": 6.0},
        gains={"analytic correction": 0.5, "bias correction": 0.07, "rounding": 0.3},
    ),
)
"""The methods in the order in which they apply, and in which the ladder tries them: those before ranges come first."""

_PLAIN = QuantizationRecipe()


def methods_of(recipe: QuantizationRecipe, stage: Stage) -> tuple[Method, ...]:
    """Return the methods of ``stage`` that ``recipe`` asks for, in the order in which they apply."""
    return tuple(method for method in METHODS if method.stage is stage and method.is_asked(recipe))


def without_methods(recipe: QuantizationRecipe, stage: Stage) -> QuantizationRecipe:
    """Return ``recipe`` with every method of ``stage`` off."""
    return replace(recipe, **{name: getattr(_PLAIN, name) for name in _fields(stage)})


def rungs_above(recipe: QuantizationRecipe, stage: Stage) -> tuple[tuple[str, QuantizationRecipe], ...]:
    """Return ``recipe`` with each rung of ``stage`` that it lacks, with the name of the rung, the cheapest first."""
    rungs: list[tuple[str, QuantizationRecipe]] = []
    for method in METHODS:
        if method.stage is stage:
            off = {name: getattr(_PLAIN, name) for name in method.fields}
            steps = [(rung, replace(recipe, **{**off, **values})) for rung, values in method.rungs.items()]
            on = max((index for index, (_, changed) in enumerate(steps) if changed == recipe), default=-1)
            rungs += steps[on + 1 :]
    return tuple(rungs)


def settings_of(recipe: QuantizationRecipe, stage: Stage) -> QuantizationRecipe:
    """Return the default recipe with the settings of ``recipe`` for the methods of ``stage`` alone."""
    return replace(_PLAIN, **{name: getattr(recipe, name) for name in _fields(stage)})


def _fields(stage: Stage) -> frozenset[str]:
    return frozenset(name for method in METHODS if method.stage is stage for name in method.fields)
