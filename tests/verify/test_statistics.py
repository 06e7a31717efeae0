from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xxdeploy.verify.statistics import (
    Interval,
    change_from_counts,
    images_needed,
    mcnemar_exact,
    paired_difference_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "images", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", Table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_values(successes: int, images: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, images)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share_and_mirrors(pair: tuple[int, int]) -> None:
    successes, images = pair
    interval, mirror = wilson_interval(successes, images), wilson_interval(images - successes, images)
    assert 0 <= interval.low <= successes / images <= interval.high <= 1
    assert interval.low < interval.high
    assert (mirror.low, mirror.high) == pytest.approx((1 - interval.high, 1 - interval.low), abs=1e-12)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact(1, 7) == 2 * (1 + 8) / 256  # Bentur et al. 2009, as in Fagerland 2014: 0.0703
    assert mcnemar_exact(7, 1) == mcnemar_exact(1, 7)
    assert mcnemar_exact(0, 5) == 2 / 32
    assert mcnemar_exact(4, 4) == 1.0
    assert mcnemar_exact(0, 0) == 1.0
    assert 0 <= mcnemar_exact(1000, 3000) < 1e-200  # no overflow, no negative


def test_paired_interval_gives_published_values() -> None:
    # Bonett and Price 2012 as in R's statpsych, ci.prop.ps(.05, 12, 26, 4, 6): 0.2548067 0.6251933
    interval = paired_difference_interval(26, 4, 48)
    assert (interval.low, interval.high) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    # Bentur et al. 2009 (1 and 7 of 21) by hand: 2/23 - 8/23 -+ 1.959964 * sqrt((10/23 - (6/23)^2) / 23)
    interval = paired_difference_interval(1, 7, 21)
    assert (interval.low, interval.high) == pytest.approx((-0.508361, -0.013378), abs=1e-5)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_paired_interval_is_inside_and_mirrors(gained: int, lost: int, same: int) -> None:
    images = gained + lost + same
    if not images:
        return
    interval, mirror = (paired_difference_interval(a, b, images) for a, b in ((gained, lost), (lost, gained)))
    assert -1 <= interval.low < interval.high <= 1
    assert (mirror.low, mirror.high) == pytest.approx((-interval.high, -interval.low), abs=1e-12)


def test_paired_interval_covers_the_truth_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(7)
    images, up, down = 677, 0.010, 0.016
    samples = rng.multinomial(images, [up, down, 1 - up - down], size=4000)
    covered = 0
    for gained, lost, _ in samples:
        interval = paired_difference_interval(int(gained), int(lost), images)
        covered += interval.low <= up - down <= interval.high
    assert 0.94 <= covered / len(samples) <= 0.97


def test_a_change_from_counts() -> None:
    change = change_from_counts(1, 2, 6)
    assert (change.gained, change.lost, change.images) == (1, 2, 6)
    assert change.change == pytest.approx(-1 / 6)
    assert change.discordance == pytest.approx(3 / 6)
    assert change.interval.low <= change.change <= change.interval.high
    assert change.p_value == 1.0


def test_images_needed_gives_the_power_that_it_promises() -> None:
    max_drop, discordance = 0.01, 0.03
    images = images_needed(max_drop, discordance)
    assert images == 2355  # (1.959964 + 0.841621)^2 * 0.03 / 0.0001
    rng = np.random.default_rng(11)
    samples = rng.multinomial(images, [discordance / 2, discordance / 2, 1 - discordance], size=3000)
    shown = [paired_difference_interval(int(up), int(down), images).low >= -max_drop for up, down, _ in samples]
    assert 0.77 <= np.mean(shown) <= 0.83


def test_images_needed_grows_as_the_margin_shrinks() -> None:
    assert images_needed(0.005, 0.03) > images_needed(0.01, 0.03) > images_needed(0.01, 0.01)
    assert images_needed(0.01, 0.03, expected_drop=0.005) > images_needed(0.01, 0.03)
    assert images_needed(0.5, 0.0) == 1
    with pytest.raises(ValueError, match="cannot plan"):
        images_needed(0.0, 0.03)
    with pytest.raises(ValueError, match="cannot plan"):
        images_needed(0.01, 0.03, expected_drop=0.01)


@pytest.mark.parametrize("counts", [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a share"):
        wilson_interval(*counts)


def test_impossible_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        paired_difference_interval(6, 6, 11)
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)
    with pytest.raises(ValueError, match="not an interval"):
        Interval(1.0, 0.0)
