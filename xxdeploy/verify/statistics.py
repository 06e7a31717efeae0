"""Confidence intervals of shares, of their changes, and of means. All shares are 0..1, none is in percent.

Two runners see the same images, so their difference is judged image by image: only the images on which one is
right and the other wrong carry information about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FEWEST = 10
"""Pictures below which there is no bootstrap interval: resamples of so few are too much alike."""
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"not an interval: {self.low}..{self.high}")


@dataclass(frozen=True, slots=True)
class PairedChange:
    """The change of top-1 from a reference to a candidate on the same labeled images.

    ``gained`` images are right with the candidate only, ``lost`` with the reference only. ``change`` is
    ``(gained - lost) / images``: negative for a loss. ``p_value`` is that of McNemar's exact test.
    """

    images: int
    gained: int
    lost: int
    change: float
    interval: Interval
    p_value: float

    @property
    def discordance(self) -> float:
        """Return the share of the images that only one of the two gets right."""
        return (self.gained + self.lost) / self.images


def wilson_interval(successes: int, images: int, *, confidence: float = 0.95) -> Interval:
    """Interval of a share (Wilson 1927, "Probable inference, the law of succession, and statistical inference").

    It stays inside 0..1 and has a width at 0 % and 100 %, too, where the textbook interval has none.
    """
    if not 0 <= successes <= images or images == 0:
        raise ValueError(f"{successes} of {images} is not a share")
    z2 = _z(confidence) ** 2
    share = successes / images
    center = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * images)) / images) / (1 + z2 / images)
    # At the ends the limit is the end itself; rounding would put it a hair inside.
    return Interval(
        0.0 if successes == 0 else max(0.0, center - half), 1.0 if successes == images else min(1.0, center + half)
    )


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p-value of "gains and losses are equally likely", by the binomial distribution.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions", in its exact
    form: right also for few discordant images, where the chi-squared form is not.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts cannot be negative: {gained}, {lost}")
    pairs = gained + lost
    term = tail = 1  # C(pairs, 0), then the sum of C(pairs, 0..min)
    for i in range(1, min(gained, lost) + 1):
        term = term * (pairs - i + 1) // i
        tail += term
    return float(min(1.0, 2 * tail / 2**pairs))


def paired_difference_interval(gained: int, lost: int, images: int, *, confidence: float = 0.95) -> Interval:
    """Interval of ``(gained - lost) / images``.

    The adjusted Wald interval of Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data" (J. Educ. Behav. Stat. 37(4), 479-488), one of those that Fagerland,
    Lydersen and Laake 2014 (Statist. Med. 33, 2850-2875) recommend: one image is added to the gains and one to the
    losses, so that it has a width also where the two never differ.
    """
    if gained < 0 or lost < 0 or gained + lost > images or images == 0:
        raise ValueError(f"{gained} gained and {lost} lost do not fit in {images} images")
    up, down = (gained + 1) / (images + 2), (lost + 1) / (images + 2)
    half = _z(confidence) * math.sqrt((up + down - (up - down) ** 2) / (images + 2))
    return Interval(max(-1.0, up - down - half), min(1.0, up - down + half))


def change_from_counts(gained: int, lost: int, images: int, *, confidence: float = 0.95) -> PairedChange:
    """Change of top-1 where ``gained`` of ``images`` images are right with the candidate only, ``lost`` before only."""
    return PairedChange(
        images=images,
        gained=gained,
        lost=lost,
        change=(gained - lost) / images,
        interval=paired_difference_interval(gained, lost, images, confidence=confidence),
        p_value=mcnemar_exact(gained, lost),
    )


def images_needed(
    max_drop: float, discordance: float, *, expected_drop: float = 0.0, power: float = 0.8, confidence: float = 0.95
) -> int:
    """Return the number of labeled images that can show that top-1 falls by no more than ``max_drop``.

    All are shares: ``discordance`` of the images only one of the two gets right. With so many images, a candidate whose
    true drop is ``expected_drop`` gets an interval that lies wholly above ``-max_drop`` in a share ``power`` of all
    samples. It is the normal approximation for the difference of paired proportions, ``n = (z_confidence + z_power)^2
    (discordance - expected_drop^2) / (max_drop - expected_drop)^2``, with the two-sided quantile of the interval
    (Connor 1987, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43,
    207-211, shifted to the margin).
    """
    if not 0 <= expected_drop <= discordance <= 1 or not expected_drop < max_drop <= 1:
        raise ValueError(f"cannot plan for {max_drop=}, {discordance=}, {expected_drop=}")
    z = _z(confidence) + NormalDist().inv_cdf(power)
    return max(1, math.ceil(z**2 * (discordance - expected_drop**2) / (max_drop - expected_drop) ** 2))


def images_needed_for_share(limit: float, expected: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Return the number of images, labeled or not, that can show a share of at least ``limit`` if it is ``expected``.

    ``n = (z_confidence sqrt(limit (1 - limit)) + z_power sqrt(expected (1 - expected)))^2 / (expected - limit)^2``
    (Fleiss, Levin and Paik 2003, "Statistical methods for rates and proportions", 3rd ed., section 2.5), with the
    two-sided quantile of the interval. Both are shares, 0..1, and ``limit`` is the smaller.
    """
    if not 0 <= limit < expected <= 1:
        raise ValueError(f"cannot plan for a share of {expected} that is to be shown to be at least {limit}")
    width = _z(confidence) * math.sqrt(limit * (1 - limit))
    width += NormalDist().inv_cdf(power) * math.sqrt(expected * (1 - expected))
    return max(1, math.ceil((width / (expected - limit)) ** 2))


def bootstrap_interval(
    values: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float] | None = None
) -> Interval | None:
    """Return the 95 % interval of the mean of ``values``, one for each picture, or of another ``statistic``.

    ``statistic`` maps the weights of the pictures, (n,), to a number. The interval holds the middle 95 % of 1,000
    resamples with a fixed seed: the percentile bootstrap (Efron 1979, "Bootstrap methods: another look at the
    jackknife", doi:10.1214/aos/1176344552). None for fewer than ``FEWEST`` pictures.
    """
    count = len(values)
    if count < FEWEST:
        return None
    computed = statistic or (lambda weights: float(weights @ values) / count)
    random = np.random.default_rng(0)
    resamples = [
        computed(np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(resamples, (0.025, 0.975))
    return Interval(float(low), float(high))


def _z(confidence: float) -> float:
    """Two-sided quantile of the normal distribution: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
