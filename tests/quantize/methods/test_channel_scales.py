from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.quantize.methods.channel_scales import BOUNDS, HEADROOM, Between, choose_scales, noise


def between(high: list[float], limit: list[float] | None = None) -> Between:
    top = np.array(high, np.float64)
    return Between(
        np.zeros_like(top), top, top**2 / 3, np.full(top.shape, np.inf) if limit is None else np.array(limit)
    )


def dense(outputs: int, channels: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((1, outputs, channels, 1)).astype(np.float32)


def depthwise(channels: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((channels, 1, 1, 9)).astype(np.float32)


def test_depthwise_channels_get_their_part_of_the_range() -> None:
    scales = choose_scales(between([6, 3, 2, 5.9]), depthwise(4))
    reach = scales * [6, 3, 2, 5.9]
    np.testing.assert_allclose(reach[1:3], HEADROOM * 6)
    assert reach.max() <= 6


def test_a_factor_is_no_larger_than_is_worth_it() -> None:
    """One quiet channel of many is well served by 4; where all but one are quiet, they need more."""
    assert choose_scales(between([6] * 7 + [0.06]), depthwise(8))[7] == BOUNDS[0]
    weights = depthwise(8)
    weights[0] /= 100
    assert choose_scales(between([6] + [0.06] * 7), weights)[1:].min() >= BOUNDS[1]


def test_the_noise_formula_is_what_rounding_does() -> None:
    """Rounding to a grid of the same step, by simulation."""
    rng = np.random.default_rng(1)
    weights = rng.uniform(-1, 1, (1, 6, 40, 1)).astype(np.float32)
    values = rng.uniform(0, 1, (4000, 40)) * rng.uniform(0.2, 2, 40)
    seen = Between(np.zeros(40), values.max(axis=0), np.square(values).mean(axis=0), np.full(40, np.inf))
    scales = rng.uniform(0.5, 2, 40)
    matrix, scaled = weights[0, :, :, 0] / scales, values * scales
    step = scaled.max() / 255
    grid = np.abs(matrix).max(axis=1, keepdims=True) / 127
    rounded = (np.rint(scaled / step) * step) @ (np.rint(matrix / grid) * grid).T
    measured = np.square(rounded - values @ weights[0, :, :, 0].T).mean(axis=0).sum()
    # The error of a fixed set of rounded weights is not the mean over all such sets: hence the width.
    assert noise(seen, weights, scales) == pytest.approx(measured, rel=0.35)


@pytest.mark.parametrize("weights", [dense(8, 5), depthwise(5)])
def test_never_noisier_than_before(weights: NDArray[np.float32]) -> None:
    for seed in range(20):
        seen = between(list(np.random.default_rng(seed).gamma(0.5, 3, 5)))
        assert noise(seen, weights, choose_scales(seen, weights)) <= noise(seen, weights, np.ones(5))


def test_one_outlier_makes_noise_fall_sharply() -> None:
    seen, weights = between([1.0, 1.2, 0.8, 1.1, 200.0]), dense(8, 5)
    weights[:, :, 4] /= 200
    assert noise(seen, weights, choose_scales(seen, weights)) < noise(seen, weights, np.ones(5)) / 100


def test_a_clip_is_not_crossed() -> None:
    scales = choose_scales(between([6, 3, 2, 5.9], [1, 1.2, 1.1, 1.01]), depthwise(4))
    np.testing.assert_allclose(scales, [1, 1.2, 1.1, 1.01])


def test_dead_channels_and_dead_weights_keep_their_scale() -> None:
    weights = depthwise(4)
    weights[2] = 0
    scales = choose_scales(between([2, 0, 1, 1]), weights)
    assert (scales[1], scales[2]) == (1, 1)
    assert scales[3] == pytest.approx(2 * HEADROOM)
    np.testing.assert_array_equal(choose_scales(between([0, 0, 0, 0]), weights), 1)
    np.testing.assert_array_equal(choose_scales(between([1, 2, 3, 4]), 0 * weights), 1)


def test_factors_are_bounded() -> None:
    scales = choose_scales(between([1e6, 1, 1e-6, 1e-30]), depthwise(4))
    assert scales.max() <= BOUNDS[-1]
    assert scales.min() >= 1 / BOUNDS[-1]
