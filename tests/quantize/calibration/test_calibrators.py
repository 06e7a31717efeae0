from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError
from xxdeploy.quantize.calibration.calibrators import calibrator
from xxdeploy.quantize.calibration.collect import Distribution, measure

EVERY = ("minmax", "moving-average", "percentile-99.9", "entropy", "mse")


def chosen(method: str, values: NDArray[np.floating]) -> tuple[float, float]:
    return calibrator(method)(measure(values.astype(np.float32)))


def squared_error(values: NDArray[np.floating], low: float, high: float) -> float:
    """Quantize over low..high, 255 steps, zero exact."""
    step = (high - low) / 255
    zero = np.rint(-low / step)
    rounded = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
    return float(np.mean((values - rounded) ** 2))


@pytest.mark.parametrize("method", EVERY)
def test_two_sided_values_without_outliers(method: str) -> None:
    low, high = chosen(method, np.random.default_rng(0).uniform(-1, 3, 16000))
    assert low == pytest.approx(-1, abs=0.05)
    assert high == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("method", ["percentile-99.9", "entropy"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_lonely_outlier_is_clipped(method: str, sign: int) -> None:
    """Not by mse: the square of its distance weighs more than coarser steps for all."""
    values = np.random.default_rng(0).standard_normal(16000)
    values[5] = sign * 40
    low, high = chosen(method, values)
    assert max(-low, high) < 20
    assert min(-low, high) > 2
    assert squared_error(np.delete(values, 5), low, high) < squared_error(np.delete(values, 5), -4, 40) / 4


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("ceiling", [6.0, 1e-6, 1e6])
def test_relu_and_its_ceiling(method: str, ceiling: float) -> None:
    """Half zeros, a tenth at the ceiling: as a ReLU6 writes them. Nothing may be cut off."""
    values = np.clip(np.random.default_rng(0).standard_normal(16000) * 0.8 * ceiling, 0, ceiling)
    assert (values == ceiling).mean() > 0.09
    low, high = chosen(method, values)
    assert low == pytest.approx(0, abs=ceiling / 2048)
    assert high == pytest.approx(ceiling, rel=1e-2)
    assert high <= np.float32(ceiling)


@pytest.mark.parametrize("shape", ["gauss", "laplace", "relu", "skewed", "shifted"])
def test_mse_is_near_the_best_of_all_ranges(shape: str) -> None:
    rng = np.random.default_rng(2)
    values = {
        "gauss": rng.standard_normal(16000),
        "laplace": rng.laplace(size=16000) ** 3,
        "relu": np.maximum(rng.laplace(size=16000) ** 3, 0),
        "skewed": rng.gamma(0.3, 2, 16000) - 0.2,
        "shifted": rng.gamma(0.3, 2, 16000) + 2,
    }[shape].astype(np.float32)
    low, high = chosen("mse", values)
    assert low <= 0 <= high
    shares = np.linspace(0.02, 1, 60)
    lows = sorted({0.0, *(shares[::4] * min(float(values.min()), 0))})
    best = min(squared_error(values, left, right) for left in lows for right in shares * float(values.max()))
    assert squared_error(values, low, high) < 1.05 * best
    assert squared_error(values, low, high) <= squared_error(values, min(values.min(), 0), values.max()) * 1.06


def test_entropy_is_no_minmax_where_tails_are_long() -> None:
    """With 128 bins, as elsewhere, it would be."""
    values = np.random.default_rng(0).laplace(size=16000) ** 3
    low, high = chosen("entropy", values)
    assert values.min() < 1.5 * low < 0
    assert values.max() > 1.5 * high > 0
    assert squared_error(values, -high, high) < np.mean(values**2) / 2  # and it keeps most of the energy


def test_percentile() -> None:
    values = np.linspace(0, 100, 10001)
    assert chosen("percentile-90", values) == pytest.approx((5, 95), abs=0.1)
    assert chosen("percentile-100", values) == (0, 100)


def test_moving_average_ignores_one_wild_image() -> None:
    parts = [np.linspace(-1, 1, 50, dtype=np.float32) * (50 if index == 3 else 1) for index in range(50)]
    values = reduce(Distribution.merged, map(measure, parts))
    low, high = calibrator("moving-average")(values)
    assert -2 < low < -1
    assert 1 < high < 2


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-30, 1e30])
def test_constants(method: str, value: float) -> None:
    """The range, widened to contain zero as the grid is, holds the value and little more."""
    low, high = chosen(method, np.full(100, value))
    value = float(np.float32(value))
    assert min(low, 0) == pytest.approx(min(value, 0), rel=2e-3, abs=1e-25)
    assert max(high, 0) == pytest.approx(max(value, 0), rel=2e-3, abs=1e-25)
    assert low <= high


@pytest.mark.parametrize("method", EVERY)
def test_one_value_and_two(method: str) -> None:
    assert chosen(method, np.array([2.5]))[1] == pytest.approx(2.5, rel=1e-3)
    low, high = chosen(method, np.array([-1.0, 2.0]))
    assert low == pytest.approx(-1, rel=2e-3)
    assert high == pytest.approx(2, rel=2e-3)


@pytest.mark.parametrize("method", EVERY)
def test_a_range_stays_inside_the_extremes(method: str) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = rng.standard_t(2, rng.integers(1, 3000)).astype(np.float32) + np.float32(rng.normal())
        low, high = chosen(method, values)
        assert min(values.min(), 0) <= low <= high <= max(values.max(), 0)


@pytest.mark.parametrize("method", ["", "mean", "percentile", "percentile-x", "percentile-101", "minmax-3", "mse-2"])
def test_unknown_methods(method: str) -> None:
    with pytest.raises(UsageError) as caught:
        calibrator(method)
    assert caught.value.code == "unknown-calibrator"
    assert "moving-average" in str(caught.value.hint)
