from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.quantize.collect import BINS, SAMPLE, Histogram, MinMax, Percentile


def test_minmax_remembers_nan() -> None:
    collector = MinMax()
    for value in (1.0, float("nan"), 2.0):
        collector.add(np.array([value], np.float32))
    assert np.isnan(collector.range()).all()


def test_bins_grow_without_losing_a_count() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(1000) * scale for scale in (1e-6, 3.0, 0.1, 700.0)]
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    everything = np.concatenate(parts).astype(np.float32)
    edges = (np.arange(2 * BINS + 1) - BINS) * histogram.width
    np.testing.assert_array_equal(histogram.counts, np.histogram(everything, edges)[0])
    assert histogram.extremes.range() == (everything.min(), everything.max())


def test_half_of_the_bins_are_used() -> None:
    for largest in (0.51, 1.0, 6.0, 1e-20, 3e20):
        histogram = Histogram()
        histogram.add(np.array([0.0, largest], np.float32))
        assert BINS // 2 <= np.flatnonzero(histogram.counts).max() - BINS < BINS


def test_large_tensors_are_sampled_evenly() -> None:
    histogram = Histogram()
    values = np.linspace(-1, 1, 50 * SAMPLE, dtype=np.float32)
    histogram.add(values)
    assert SAMPLE / 2 < histogram.counts.sum() <= SAMPLE
    for share in (0.001, 0.25, 0.9):
        assert histogram.quantile(share) == pytest.approx(2 * share - 1, abs=2e-3)


def test_a_percentile_ignores_what_is_rare() -> None:
    values = np.concatenate([np.random.default_rng(0).uniform(0, 1, 20000), [1000.0]]).astype(np.float32)
    low, high = MinMax(), Percentile(99.9)
    low.add(values)
    high.add(values)
    assert low.range()[1] == 1000
    assert high.range()[1] == pytest.approx(1.0, abs=0.5)  # one bin of a range of 1000 is 0.25 wide
