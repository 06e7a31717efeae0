"""The arithmetic of equalization: the factor of each channel between two layers, by the rounding noise it causes.

Nagel et al. 2019, arXiv:1906.04721, section 4.1, scale channel ``i`` of a tensor by ``s[i]`` and the weights that read
it by ``1 / s[i]``. For weights with one scale a tensor they find ``s[i] = sqrt(r1[i] * r2[i]) / r1[i]``, up to a common
factor: ``r1[i] ** -1/2 * r2[i] ** 1/2``, with the ranges of the first layer's channels and of the second's.

Here a layer's weights have one scale for each output channel, so factors cost the first layer nothing; the tensor
between the layers has one scale for all channels. So ``r1`` is the range of channel ``i`` of that tensor on images,
``r2`` the largest weight that reads it, and the exponents are free::

    s[i] = r1[i] ** -a * r2[i] ** b

Among the :data:`EXPONENTS` (a, b), with (0, 0) for no change and (1/2, 1/2) for the paper's rule, those are chosen
that add least rounding noise to the second layer's outputs::

    tensor:   (range / 255) ** 2 / 12 * sum over o, i of (W[o, i] / s[i]) ** 2
    weights:  sum over o, i of (W'[o, i] - round(W'[o, i])) ** 2 * s[i] ** 2 * E[x[i] ** 2],  W'[o, i] = W[o, i] / s[i]

where ``round`` is that of INT8 itself: weights that are multiples of their scale already lose by any factor, and the
formula includes that. For a depthwise second layer the rounding does not depend on ``s``, and every channel gets the
whole range.

On other images a quiet channel may exceed its calibrated range. Unscaled it had room for that; scaled to the whole
range it is clipped. So no factor is larger than necessary: with a factor of four, a channel's noise is down to a
sixteenth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xxdeploy.quantize.integers import integer_weights
from xxdeploy.quantize.scheme import Scheme

Vector = NDArray[np.float64]

EXPONENTS = tuple((a, b) for a in (0.0, 0.25, 0.5, 1.0) for b in (0.0, 0.25, 0.5))
OUTPUTS = 128
"""Outputs of a layer, evenly chosen, on which the exponents are compared."""

HEADROOM = 1.0
"""Share of the tensor's range that scaling may give a channel."""

BOUNDS = (4.0, 16.0, 64.0, 256.0)
"""Largest factors (and the inverse of the smallest). The next is taken if it reduces the noise by a tenth."""


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """The tensor between two layers, by channel, on calibration images. All arrays are (channels,) float64.

    ``low``, ``high`` and ``square`` (the mean of the squares) are those of the second layer's input. ``limit`` is the
    largest factor at which no Clip between the layers cuts the channel; 1 if a Clip cuts it already.
    """

    low: Vector
    high: Vector
    square: Vector
    limit: Vector

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Channels that are not always zero."""
        return (self.low < 0) | (self.high > 0)


def choose_scales(between: Between, weights: NDArray[np.float32]) -> Vector:
    """Return the factors (channels,) float64, 1 where none helps.

    ``weights`` are the second layer's, (groups, outputs of a group, channels of a group, taps).
    """
    some = weights[:, :: -(-weights.shape[1] // OUTPUTS)]
    best = np.ones(between.low.size)
    least = noise(between, some, best)
    for bound in BOUNDS:
        tried = [_scales(between, weights, a, b, bound) for a, b in EXPONENTS]
        noises = [noise(between, some, scales) for scales in tried]
        lowest = int(np.argmin(noises))
        if noises[lowest] >= least * (1 if bound == BOUNDS[0] else 0.9):
            break
        best, least = tried[lowest], noises[lowest]
    return best


def noise(between: Between, weights: NDArray[np.float32], scales: Vector) -> float:
    """Return the variance that rounding adds to the second layer's outputs, summed over them."""
    groups, outputs, members, taps = weights.shape
    by_member = scales.reshape(groups, 1, members, 1)
    scaled = weights / by_member
    width = max((scales * between.high).max(), 0) - min((scales * between.low).min(), 0)
    tensor = (width / 255) ** 2 / 12 * np.square(scaled).sum()
    rows = scaled.reshape(groups * outputs, members, taps).astype(np.float32)
    integers = integer_weights(rows, 0, Scheme(), bias=None, input_scale=1.0)
    lost = (rows - integers.values * integers.scale[:, None, None]).reshape(scaled.shape) * by_member
    return float(tensor + (np.square(lost) * between.square.reshape(groups, 1, members, 1)).sum())


def _scales(between: Between, weights: NDArray[np.float32], a: float, b: float, bound: float) -> Vector:
    """Return the factors for two exponents, limited so that the tensor's range stays and no Clip cuts more."""
    alive = between.alive
    scales = np.ones(between.low.size)
    if not alive.any():
        return scales
    reach = np.maximum(-between.low, between.high)
    heaviest = np.abs(weights).astype(np.float64).max(axis=(1, 3)).reshape(-1)
    used = alive & (heaviest > 0)
    if not used.any():
        return scales
    scales[used] = (reach[used] / reach.max()) ** -a * (heaviest[used] / heaviest.max()) ** b
    scales[used] *= reach.max() / (scales * reach)[used].max()
    scales = np.clip(scales, 1 / bound, bound)
    scales[used] = np.minimum(scales[used], np.maximum(HEADROOM * reach.max() / reach[used], 1))
    free = between.limit > 1
    return np.where(free & used, np.minimum(scales, between.limit), 1.0)
