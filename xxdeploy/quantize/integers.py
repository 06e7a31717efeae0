"""From float values to integers and scales, for activations, weights and biases.

``real = (integer - zero_point) * scale`` throughout, as in Jacob et al. 2018, arXiv:1712.05877, equation 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.x86.saturating_pairs import fit_saturating_pairs, narrow_scale

_FLOOR = 2.0**-60
"""Smallest scale: the product of two is still a normal float32."""

_BIAS_LIMIT = 2.0**30
"""Largest quantized bias: half of int32 is left for the sum of products."""

_BLOCK = 1 << 20
"""Values that are rounded at a time, as float64."""


@dataclass(frozen=True, slots=True)
class QuantizationParameters:
    """``scale`` (0-d float32) and ``zero_point`` (0-d uint8 or int8) of one activation."""

    scale: NDArray[np.float32]
    zero_point: NDArray[Any]


@dataclass(frozen=True, slots=True)
class IntegerWeights:
    """A layer's weights and bias.

    ``values`` int8 has the float weights' layout, ``scale`` float32 is (channels,). ``bias`` int32 (channels,) is None
    if the layer has none; its scale ``bias_scale`` float32 (channels,) is the input's times the weights'.
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32] | None
    bias_scale: NDArray[np.float32]


def activation_parameters(low: float, high: float, scheme: Scheme) -> QuantizationParameters:
    """Lay 256 integers (255 if symmetric) over ``low..high``, widened to contain zero.

    Zero is exact, so padding with zeros is exact, too. The integers never span more than the range: ONNX Runtime
    removes a Clip in front of a quantizer only if the quantizer clips at least as much, to within 1.2e-7. A range of
    zero width (a tensor that was zero in every image) becomes 0..1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < _FLOOR * 256:
        low, high = 0.0, 1.0
    if scheme.symmetric:
        return QuantizationParameters(_at_most(max(-low, high), 127), np.array(0, np.int8))
    scale = _at_most(high - low, 255)
    zero = int(np.clip(np.rint(-low / float(scale)), 0, 255))
    return QuantizationParameters(scale, np.array(zero - 128, np.int8) if scheme.signed else np.array(zero, np.uint8))


def integer_weights(
    weights: NDArray[np.float32],
    axis: int,
    scheme: Scheme,
    *,
    bias: NDArray[np.float32] | None,
    input_scale: float,
    narrow: bool = False,
) -> IntegerWeights:
    """Round ``weights`` to int8, symmetric, one scale for each channel along ``axis``; ``bias`` (channels,) to int32.

    A channel's scale is its largest magnitude over ``scheme.weight_max``, with two exceptions. A dead channel (all
    zero) takes the smallest scale of the other channels. And a scale is raised until the bias fits into int32;
    otherwise ONNX Runtime would do that silently. ``narrow`` also raises it until no input can saturate the 16-bit sums
    of x86 processors without VNNI.
    """
    rest = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.maximum(weights.max(axis=rest), -weights.min(axis=rest)).astype(np.float64)
    living = largest[largest > 0]
    largest[largest == 0] = living.min() if living.size else 1.0
    scale = np.maximum(largest / scheme.weight_max, _FLOOR)
    blocks = list(_blocks(weights.shape, axis))
    if narrow:
        scale = np.maximum(scale, np.concatenate([narrow_scale(weights[block], axis) for block in blocks]))
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / (input_scale * _BIAS_LIMIT))
    scale32 = scale.astype(np.float32)
    along = scale32.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    values = np.empty(weights.shape, np.int8)
    for block in blocks:
        steps = weights[block] / along[block[: axis + 1]]
        rounded = np.clip(np.rint(steps), -scheme.weight_max, scheme.weight_max).astype(np.int8)
        values[block] = fit_saturating_pairs(rounded, axis, steps) if narrow else rounded
    bias_scale = (np.float32(input_scale) * scale32).astype(np.float32)
    integer_bias = None if bias is None else np.rint(bias / bias_scale.astype(np.float64)).astype(np.int32)
    return IntegerWeights(values, scale32, integer_bias, bias_scale)


def _blocks(shape: tuple[int, ...], axis: int) -> Iterator[tuple[slice, ...]]:
    """Yield slices of an array with a million values, or one channel: VGG's first Dense has a hundred million."""
    channels = shape[axis]
    size = max(1, _BLOCK * channels // max(1, int(np.prod(shape))))
    for first in range(0, channels, size):
        yield (*[slice(None)] * axis, slice(first, first + size))


def _at_most(width: float, steps: int) -> NDArray[np.float32]:
    """Return the largest float32 scale whose ``steps`` multiple, in float32, does not pass ``width``."""
    scale = np.float32(width / steps)
    while np.float32(steps) * scale > np.float32(width):
        scale = np.nextafter(scale, np.float32(0))
    return np.asarray(scale, np.float32)
