"""Rounding as a binary quadratic problem, against exhaustive search and against rounding to the nearest."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.quantize.methods import rounding
from xxdeploy.quantize.methods.rounding import DAMPING, round_weights

Floats = NDArray[np.float32]


def moments_of(rng: np.random.Generator, groups: int, taps: int, rank: int) -> Floats:
    """Return second moments (groups, taps, taps) of inputs that ``rank`` hidden causes and a little noise make."""
    causes = rng.standard_normal((groups, taps, rank))
    matrices = causes @ causes.transpose(0, 2, 1) + 0.02 * np.eye(taps)
    return matrices.astype(np.float32)


def damped(moments: Floats) -> NDArray[np.float64]:
    share = DAMPING * np.trace(moments, axis1=1, axis2=2) / moments.shape[1]
    form: NDArray[np.float64] = moments.astype(np.float64) + share[:, None, None] * np.eye(moments.shape[1])
    return form


def loss(steps: Floats, integers: NDArray[np.int8], moments: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the quadratic form of each output, (groups, outputs)."""
    error = steps.astype(np.float64) - integers
    form: NDArray[np.float64] = np.einsum("got,gtu,gou->go", error, moments.astype(np.float64), error)
    return form


def nearest(steps: Floats, limit: int) -> NDArray[np.int8]:
    return np.clip(np.rint(steps), -limit, limit).astype(np.int8)


@pytest.mark.parametrize("shape", [(1, 16, 27), (1, 8, 64), (12, 1, 9), (4, 6, 18), (1, 1, 1), (3, 5, 2)])
@pytest.mark.parametrize("rank", [1, 3, 40])
def test_never_worse_than_nearest_and_one_of_two_neighbors(shape: tuple[int, int, int], rank: int) -> None:
    rng = np.random.default_rng(sum(shape) + rank)
    steps = rng.uniform(-127, 127, shape).astype(np.float32)
    moments = moments_of(rng, shape[0], shape[2], rank)
    rounded = round_weights(steps, moments, 127)
    assert rounded.dtype == np.int8
    assert rounded.shape == shape
    assert ((rounded == np.floor(steps)) | (rounded == np.ceil(steps))).all()
    for form in (moments, damped(moments)):  # the damping cannot be paid for by the form itself
        least = loss(steps, nearest(steps, 127), form)
        assert (loss(steps, rounded, form) <= least * (1 + 1e-5) + 1e-6).all()


def test_correlated_inputs_gain_much() -> None:
    rng = np.random.default_rng(0)
    steps = rng.uniform(-127, 127, (1, 64, 72)).astype(np.float32)
    moments = moments_of(rng, 1, 72, 4)
    gained = loss(steps, round_weights(steps, moments, 127), moments).sum()
    assert gained < 0.1 * loss(steps, nearest(steps, 127), moments).sum()


@pytest.mark.parametrize("taps", [2, 4, 6, 8])
def test_the_optimum_is_reached_or_nearly(taps: int) -> None:
    rng = np.random.default_rng(taps)
    steps = rng.uniform(-20, 20, (1, 60, taps)).astype(np.float32)
    moments = moments_of(rng, 1, taps, taps)
    choices = np.floor(steps)[0][:, None, :] + np.array(list(product((0, 1), repeat=taps)))  # (outputs, 2^taps, taps)
    error = steps[0][:, None, :] - choices
    best = np.einsum("oct,tu,ocu->oc", error, damped(moments)[0], error).min(axis=1)
    rounded = loss(steps, round_weights(steps, moments, 127), damped(moments))[0]
    plain = loss(steps, nearest(steps, 127), damped(moments))[0]
    assert (rounded >= best * (1 - 1e-4)).all()  # it is the optimum
    assert np.isclose(rounded, best, rtol=1e-4).mean() > {2: 0.8, 4: 0.6, 6: 0.4, 8: 0.25}[taps]
    assert rounded.sum() - best.sum() < 0.25 * (plain.sum() - best.sum())  # most of what can be gained is


def test_no_single_flip_helps_any_more() -> None:
    rng = np.random.default_rng(3)
    steps = rng.uniform(-100, 100, (2, 10, 12)).astype(np.float32)
    moments = moments_of(rng, 2, 12, 3)
    rounded = round_weights(steps, moments, 127)
    least = loss(steps, rounded, damped(moments))
    for tap in range(12):
        other = rounded.copy()
        other[:, :, tap] = np.floor(steps[:, :, tap]) + np.ceil(steps[:, :, tap]) - rounded[:, :, tap]
        assert (loss(steps, other, damped(moments)) >= least * (1 - 1e-4)).all()


@pytest.mark.parametrize("limit", [64, 127])
def test_the_limit_holds(limit: int) -> None:
    rng = np.random.default_rng(4)
    steps = rng.choice([-1, 1], (1, 200, 9)) * rng.uniform(limit - 0.9, limit + 0.1, (1, 200, 9))
    moments = moments_of(rng, 1, 9, 1)
    rounded = round_weights(steps.astype(np.float32), moments, limit)
    assert np.abs(rounded.astype(int)).max() == limit
    assert np.abs(rounded - steps).max() < 1
    assert (rounded != nearest(steps.astype(np.float32), limit)).any()
    beyond = np.full((1, 1, 9), limit + 40.5, np.float32) * np.array([1, -1] * 4 + [1], np.float32)
    np.testing.assert_array_equal(round_weights(beyond, moments, limit), np.sign(beyond) * limit)


def test_exact_integers_stay() -> None:
    rng = np.random.default_rng(5)
    steps = rng.integers(-127, 128, (2, 6, 10)).astype(np.float32)
    np.testing.assert_array_equal(round_weights(steps, moments_of(rng, 2, 10, 1), 127), steps)
    half = steps.copy()
    half[:, :, ::2] = np.clip(half[:, :, ::2], -126, 126) + 0.5
    rounded = round_weights(half, moments_of(rng, 2, 10, 1), 127)
    np.testing.assert_array_equal(rounded[:, :, 1::2], steps[:, :, 1::2])


def test_without_moments_it_is_nearest() -> None:
    steps = np.random.default_rng(6).uniform(-127, 127, (3, 4, 9)).astype(np.float32)
    np.testing.assert_array_equal(round_weights(steps, np.zeros((3, 9, 9), np.float32), 127), nearest(steps, 127))
    independent = np.broadcast_to(np.diag(np.arange(1, 10)), (3, 9, 9)).astype(np.float32)
    np.testing.assert_array_equal(round_weights(steps, independent, 127), nearest(steps, 127))


def test_the_unit_of_the_moments_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    steps = rng.uniform(-127, 127, (2, 8, 18)).astype(np.float32)
    moments = moments_of(rng, 2, 18, 4)
    for factor in (2.0**-40, 2.0**40):
        scaled = (moments * np.float32(factor)).astype(np.float32)
        np.testing.assert_array_equal(round_weights(steps, scaled, 127), round_weights(steps, moments, 127))


def test_a_group_is_rounded_by_its_own_inputs() -> None:
    rng = np.random.default_rng(8)
    steps = rng.uniform(-127, 127, (6, 3, 9)).astype(np.float32)
    moments = moments_of(rng, 6, 9, 2)
    alone = [round_weights(steps[g : g + 1], moments[g : g + 1], 127) for g in range(6)]
    np.testing.assert_array_equal(round_weights(steps, moments, 127), np.concatenate(alone))


def test_a_dead_input_and_its_weights_are_left_alone() -> None:
    rng = np.random.default_rng(9)
    steps = rng.uniform(-127, 127, (1, 20, 12)).astype(np.float32)
    moments = moments_of(rng, 1, 12, 2)
    moments[:, 4] = moments[:, :, 4] = 0
    np.testing.assert_array_equal(round_weights(steps, moments, 127)[..., 4], nearest(steps, 127)[..., 4])


def test_many_taps_gain_almost_as_much_by_one_start_as_by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    steps = rng.uniform(-100, 100, (1, 24, 96)).astype(np.float32)
    moments = moments_of(rng, 1, 96, 16)
    plain = loss(steps, nearest(steps, 127), damped(moments))
    twice = loss(steps, round_weights(steps, moments, 127), damped(moments))
    monkeypatch.setattr(rounding, "MANY", 64)
    once = loss(steps, round_weights(steps, moments, 127), damped(moments))
    assert not np.array_equal(once, twice)
    assert (once <= plain * (1 + 1e-5)).all()
    assert plain.sum() - once.sum() > 0.9 * (plain.sum() - twice.sum())
