from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.quantize.calibration.collect import BINS, DECAY, SAMPLE, Distribution, measure


def merged(parts: list[NDArray[np.float32]]) -> Distribution:
    return reduce(Distribution.merged, map(measure, parts))


def parts() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(1000) * scale).astype(np.float32) for scale in (1e-6, 3.0, 0.1, 700.0)]


def test_bins_grow_without_losing_a_count() -> None:
    distribution, everything = merged(parts()), np.concatenate(parts())
    np.testing.assert_array_equal(distribution.counts, np.histogram(everything, distribution.edges)[0])
    assert (distribution.low, distribution.high, distribution.images) == (everything.min(), everything.max(), 4)


def test_counts_do_not_depend_on_the_order() -> None:
    forwards, backwards = merged(parts()), merged(parts()[::-1])
    np.testing.assert_array_equal(forwards.counts, backwards.counts)
    assert (forwards.width, forwards.low, forwards.high) == (backwards.width, backwards.low, backwards.high)


@pytest.mark.parametrize("largest", [0.51, 1.0, 6.0, 1e-20, 3e20, 3e38, 1e-44])
def test_half_of_the_bins_are_used_on_the_longer_side(largest: float) -> None:
    for sign in (1, -1):
        distribution = measure(np.array([0.0, sign * largest], np.float32))
        filled = np.flatnonzero(distribution.counts) - BINS
        assert distribution.counts.sum() == 2
        if largest > 1e-30:  # denormals share a bin with zero
            assert BINS // 2 <= np.abs(filled).max() <= BINS


def test_values_on_edges_belong_to_the_bin_above() -> None:
    distribution = measure(np.array([-1, -0.5, 0, 0.5, 1], np.float32))
    assert (distribution.width, distribution.zeros) == (2 / BINS, 1)
    np.testing.assert_array_equal(np.flatnonzero(distribution.counts), BINS + np.arange(-2, 3) * BINS // 4)


def test_large_tensors_are_sampled_evenly() -> None:
    distribution = measure(np.linspace(-1, 1, 50 * SAMPLE, dtype=np.float32).reshape(2, 5, 5, -1))
    assert SAMPLE / 2 < distribution.counts.sum() <= SAMPLE
    below = np.cumsum(distribution.counts) / distribution.counts.sum()
    np.testing.assert_allclose(below, np.clip(distribution.edges[1:] / 2 + 0.5, 0, 1), atol=2e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_values_show_and_stay(value: float) -> None:
    broken = measure(np.array([1.0, value, 2.0], np.float32))
    good = measure(np.array([1.0, 3.0], np.float32))
    for distribution in (broken, good.merged(broken).merged(good)):
        assert not np.isfinite(distribution.low + distribution.high)


def test_the_moving_average_weighs_later_images_more() -> None:
    lows, highs = np.random.default_rng(0).uniform((-2, 1), (-1, 5), (30, 2)).astype(np.float32).T
    distribution = merged([np.array(pair, np.float32) for pair in zip(lows, highs, strict=True)])
    weights = DECAY ** np.arange(29, -1, -1.0)
    assert distribution.moving_low == pytest.approx(np.average(lows, weights=weights))
    assert distribution.moving_high == pytest.approx(np.average(highs, weights=weights))


def test_merging_is_associative() -> None:
    first, second, third = (measure(part) for part in parts()[:3])
    left, right = first.merged(second).merged(third), first.merged(second.merged(third))
    assert left.moving_high == pytest.approx(right.moving_high)
    np.testing.assert_array_equal(left.counts, right.counts)
