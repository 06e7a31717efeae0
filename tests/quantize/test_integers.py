from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xxdeploy.quantize.integers import activation_parameters, integer_weights
from xxdeploy.quantize.scheme import Scheme

FLOATS = st.floats(-1e6, 1e6, width=32)


@given(FLOATS, FLOATS)
def test_a_grid_holds_its_range_and_zero(one: float, other: float) -> None:
    low, high = sorted((one, other))
    grid = activation_parameters(low, high, Scheme())
    scale, zero = float(grid.scale), int(grid.zero_point)
    assert scale > 0
    assert 0 <= zero <= 255
    # Clipping costs at most the half step to which the zero point is rounded, and a float32 rounding.
    assert (255 - zero) * scale >= high - 0.51 * scale
    assert -zero * scale <= low + 0.51 * scale


@given(st.floats(2**-20, 1e6, width=32))
def test_a_clip_in_front_becomes_free(high: float) -> None:
    grid = activation_parameters(0.0, high, Scheme())
    assert grid.zero_point == 0
    assert np.float32(255) * np.float32(grid.scale) <= np.float32(high)


@given(FLOATS, FLOATS)
def test_signed_is_unsigned_shifted(one: float, other: float) -> None:
    low, high = sorted((one, other))
    unsigned, signed = activation_parameters(low, high, Scheme()), activation_parameters(low, high, Scheme(signed=True))
    assert signed.scale == unsigned.scale
    assert signed.zero_point.dtype == np.int8
    assert int(signed.zero_point) == int(unsigned.zero_point) - 128


@given(FLOATS, FLOATS)
def test_symmetric_has_zero_at_zero(one: float, other: float) -> None:
    low, high = sorted((one, other))
    grid = activation_parameters(low, high, Scheme(signed=True, symmetric=True))
    assert grid.zero_point.dtype == np.int8
    assert grid.zero_point == 0
    if max(abs(low), abs(high)) > 1e-9:
        assert 127 * float(grid.scale) == pytest.approx(max(abs(low), abs(high)), rel=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1e-40, 1e-40), (-1e-30, 0.0)])
def test_a_range_without_width_becomes_a_sane_one(low: float, high: float) -> None:
    grid = activation_parameters(low, high, Scheme())
    assert float(grid.scale) == pytest.approx(1 / 255)


def test_a_constant_is_kept() -> None:
    grid = activation_parameters(3.0, 3.0, Scheme())
    assert 255 * float(grid.scale) == pytest.approx(3.0)
    assert grid.zero_point == 0


def quantized(weights: np.ndarray, axis: int = 0, bits: int = 8, bias: np.ndarray | None = None, s: float = 0.02):  # type: ignore[no-untyped-def]
    return integer_weights(weights.astype(np.float32), axis, Scheme(weight_bits=bits), bias=bias, input_scale=s)


@pytest.mark.parametrize("bits", [8, 7])
@pytest.mark.parametrize(("shape", "axis"), [((6, 3, 3, 3), 0), ((6, 1, 3, 3), 0), ((5, 7), 1), ((5, 7), 0)])
def test_weights_are_rounded_per_channel(bits: int, shape: tuple[int, ...], axis: int) -> None:
    weights = np.random.default_rng(3).standard_normal(shape)
    integers = quantized(weights, axis, bits)
    scale = integers.scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    assert integers.scale.shape == (shape[axis],)
    assert np.abs(integers.values * scale - weights).max() <= scale.max() * 0.5001
    largest = np.abs(integers.values).max(axis=tuple(i for i in range(len(shape)) if i != axis))
    assert (largest == (127 if bits == 8 else 64)).all()


def test_weights_on_a_grid_are_exact() -> None:
    rng = np.random.default_rng(4)
    integers = rng.integers(-127, 128, (8, 4, 3, 3))
    integers[:, 0, 0, 0] = 127
    scale = rng.uniform(1e-4, 1e-1, (8, 1, 1, 1)).astype(np.float32)
    written = quantized(integers * scale)
    np.testing.assert_array_equal(written.values, integers)


def test_dead_channels_keep_their_bias() -> None:
    weights = np.random.default_rng(5).standard_normal((3, 4, 1, 1))
    weights[1] = 0
    bias = np.array([0.1, 2.5, -0.3], np.float32)
    integers = quantized(weights, bias=bias)
    assert not integers.values[1].any()
    assert integers.bias is not None
    np.testing.assert_allclose(integers.bias * integers.bias_scale, bias, atol=1e-3)


def test_all_channels_dead() -> None:
    integers = quantized(np.zeros((2, 3, 1, 1)), bias=np.array([1.0, -2.0], np.float32))
    assert np.isfinite(integers.scale).all()
    assert (integers.scale > 0).all()
    assert integers.bias is not None
    np.testing.assert_allclose(integers.bias * integers.bias_scale, [1.0, -2.0], rtol=1e-2)


@pytest.mark.parametrize("tiny", [1e-9, 1e-20, 1e-38])
def test_a_large_bias_on_tiny_weights_fits_into_int32(tiny: float) -> None:
    weights = np.full((2, 3, 1, 1), tiny)
    weights[0] = 1.0
    bias = np.array([1.0, 50.0], np.float32)
    integers = quantized(weights, bias=bias, s=1e-3)
    assert integers.bias is not None
    assert np.abs(integers.bias.astype(np.int64)).max() <= 2**30
    np.testing.assert_allclose(integers.bias.astype(np.float64) * integers.bias_scale, bias, rtol=1e-4)
    assert np.abs(integers.bias_scale - np.float32(1e-3) * integers.scale).max() == 0
