"""How far an export climbs: the expected seconds and gain of a rung, and whether the held-back images can see the gain.

A rung is expected to take a share ``g`` of the KL divergence away (``Method.gains``). These shares are means over few
networks: the analytic correction took 0.95 on MobileNet, nothing on MobileNetV2 and 0.48 on a ResNet50 with random
weights, bias correction 0.06, nothing and 0.16 more, rounding 0.28 more on MobileNet. The divergence grows
with the square of the error of the scores; an image changes its class if the error exceeds its margin, so for small
errors the disagreement ``d`` grows with the error itself. A rung then lowers ``d`` to ``d * sqrt(1 - g)``, and the
number of images of ``n`` that agree again is::

    k = n * d * (1 - sqrt(1 - g))

Of paired classes only the images that change carry information (McNemar 1947, "Note on the sampling error of the
difference between correlated proportions", Psychometrika 12): if all ``k`` are gains, their standard error is
``sqrt(k)``. A gain of less than one image is smaller than its own error, so ``n`` images cannot show that it is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xxdeploy.quantize.methods.registry import METHODS

Effort = Literal["quick", "normal", "thorough"]

CALIBRATOR = "calibrator"
"""The rung that tries other calibrators."""
GAINS = {CALIBRATOR: 0.3} | {rung: gain for method in METHODS for rung, gain in method.gains.items()}
"""The share (0..1) of the KL divergence that each rung is expected to take away."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a rung is expected to cost and to gain.

    ``seconds`` is its time on this machine; ``gain`` the gain of agreement (0..1), None for features; ``images`` the
    number of images that would agree again.
    """

    rung: str
    seconds: float
    gain: float | None
    images: float | None

    def __str__(self) -> str:
        gain = "less noise" if self.gain is None else f"{100 * self.gain:.1f} points of agreement"
        return f"about {duration(self.seconds)}, expected gain {gain}"


def estimate(rung: str, agreement: float | None, images: int, seconds: float) -> Estimate:
    """Return the estimate of a rung for a model with this ``agreement`` (0..1, None for features) on ``images``."""
    if agreement is None:
        return Estimate(rung, seconds, None, None)
    gain = (1 - agreement) * (1 - math.sqrt(1 - GAINS[rung]))
    return Estimate(rung, seconds, gain, gain * images)


def is_worth(effort: Effort, expected: Estimate, *, is_broken: bool) -> bool:
    """Return whether a rung is climbed at this effort; each is where the model violates a promise (``is_broken``)."""
    if is_broken or effort == "thorough":
        return True
    return effort == "normal" and (expected.images is None or expected.images >= 1)


def passed_over(effort: Effort, rungs: Sequence[Estimate]) -> tuple[str, ...]:
    """Return the sentence about rungs that were not climbed, in a tuple; an empty one without any."""
    if not rungs:
        return ()
    why = "--effort quick is given" if effort == "quick" else "fewer than one held-back image would show their gain"
    listed = "; ".join(f"{expected.rung}: {expected}" for expected in rungs)
    return (f"not tried, since {why} (--effort thorough tries them): {listed}",)


def duration(seconds: float) -> str:
    """Write a time for people: ``40 s``, ``3 min``."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{seconds / 60:.0f} min"
