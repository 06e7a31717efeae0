from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper
from quantnets import pair_excess

from xxdeploy.quantize.integers import integer_weights
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.x86.saturating_pairs import (
    LARGEST_SUM,
    adds_in_16_bits,
    fit_saturating_pairs,
    kernel_rows,
    narrow_scale,
    saturating_pairs,
    weights_from_rows,
)

SHAPES = [
    ((4, 6, 3, 3), 0),
    ((4, 3, 3, 3), 0),
    ((4, 5, 1, 1), 0),
    ((4, 1, 3), 0),
    ((5, 7), 0),
    ((7, 5), 1),
    ((2, 1), 0),
]
WEIGHTS = st.sampled_from(SHAPES).flatmap(
    lambda pair: st.tuples(hnp.arrays(np.int8, pair[0], elements=st.integers(-127, 127)), st.just(pair[1]))
)


def test_kernels_run_over_input_channels_first() -> None:
    weights = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    expected = [weights[0, c, y, x] for y in range(2) for x in range(2) for c in range(3)]
    np.testing.assert_array_equal(kernel_rows(weights, 0)[0], expected)
    matrix = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(kernel_rows(matrix, 1), matrix.T)
    np.testing.assert_array_equal(kernel_rows(matrix, 0), matrix)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_rows_lead_back(shape: tuple[int, ...], axis: int) -> None:
    weights = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(weights_from_rows(kernel_rows(weights, axis), axis, shape), weights)


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_a_pair_is_risky_if_some_input_overflows(one: int, other: int) -> None:
    sums = [x * one + y * other for x, y in itertools.product((0, 255), repeat=2)]
    overflows = min(sums) < -32768 or max(sums) > 32767
    channels, firsts = saturating_pairs(np.array([[0, 0, one, other, one]], np.int8), 0)
    assert (channels.tolist(), firsts.tolist()) == (([0], [2]) if overflows else ([], []))


@given(WEIGHTS)
def test_fitted_weights_are_safe_and_hardly_moved(drawn: tuple[np.ndarray, int]) -> None:
    values, axis = drawn
    fitted = fit_saturating_pairs(values, axis)
    assert not pair_excess(fitted, axis).any()
    assert not len(saturating_pairs(fitted, axis)[0])
    assert (np.sign(fitted) * np.sign(values) >= 0).all()
    assert (np.abs(fitted.astype(int)) <= np.abs(values.astype(int))).all()
    safe = values if not pair_excess(values, axis).any() else fitted
    np.testing.assert_array_equal(fit_saturating_pairs(safe, axis), safe)


def test_weights_stay_close_to_what_they_were_before_rounding() -> None:
    values, steps = np.array([[65, 64, -65, -64]], np.int8), np.array([[64.6, 64.2, -65.2, -63.6]])
    np.testing.assert_array_equal(fit_saturating_pairs(values, 0, steps), [[64, 64, -65, -63]])
    np.testing.assert_array_equal(fit_saturating_pairs(values, 0), [[64, 64, -64, -64]])
    far = np.array([[120, 20, 100, 100]], np.int8)
    np.testing.assert_array_equal(
        fit_saturating_pairs(far, 0, np.array([[120.0, 8.0, 100.0, 100.0]])), [[120, 8, 64, 64]]
    )


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_narrow_weights_cannot_overflow_and_cost_less_than_seven_bits(
    shape: tuple[int, ...], axis: int, spread: float
) -> None:
    weights = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    weights *= spread ** np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    bias = np.linspace(-1, 1, shape[axis], dtype=np.float32)
    plain, narrow, seven = (
        integer_weights(weights, axis, Scheme(weight_bits=bits), bias=bias, input_scale=0.02, narrow=mode)
        for bits, mode in ((8, False), (8, True), (7, False))
    )
    assert not pair_excess(narrow.values, axis).any()
    assert (narrow.scale >= plain.scale).all()
    assert (narrow.scale <= seven.scale * 1.000001).all()
    along = [-1 if index == axis else 1 for index in range(len(shape))]
    error = np.abs(narrow.values * narrow.scale.reshape(along) - weights)
    assert (error <= 1.01 * narrow.scale.reshape(along)).all()  # half a step, or one where a pair had to give way
    assert narrow.bias is not None
    np.testing.assert_allclose(narrow.bias * narrow.bias_scale, bias, atol=float(narrow.bias_scale.max()))


def test_narrow_leaves_harmless_channels_alone() -> None:
    weights = np.array([[1.0, 0.001, -1.0, 0.5], [1.0, 1.0, 0.1, 0.2]], np.float32)
    np.testing.assert_allclose(narrow_scale(weights, 0), [1.001 / LARGEST_SUM, 2 / LARGEST_SUM], rtol=1e-6)
    plain = integer_weights(weights, 0, Scheme(), bias=None, input_scale=1.0)
    narrow = integer_weights(weights, 0, Scheme(), bias=None, input_scale=1.0, narrow=True)
    assert narrow.scale[0] == plain.scale[0]
    np.testing.assert_array_equal(narrow.values[1, :2], [64, 64])


def test_which_layers_add_pairs() -> None:
    depthwise = helper.make_node("Conv", ["x", "w"], ["y"], group=8)
    assert not adds_in_16_bits(depthwise, (8, 1, 3, 3))
    assert adds_in_16_bits(depthwise, (16, 1, 3, 3))  # a depth multiplier of 2
    assert adds_in_16_bits(depthwise, (8, 2, 3, 3))
    assert adds_in_16_bits(helper.make_node("Conv", ["x", "w"], ["y"]), (8, 1, 3, 3))
    assert adds_in_16_bits(helper.make_node("Gemm", ["x", "w"], ["y"]), (8, 1))
