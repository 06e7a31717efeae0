"""Equalization's arithmetic: the factor of each channel between two layers, and what it costs and gains.

Nagel et al. 2019, arXiv:1906.04721, section 4.1, scale channel ``i`` of a tensor by ``s[i]`` and the weights that read
it by ``1 / s[i]``. For weights with one scale a tensor they find ``s[i] = sqrt(r1[i] * r2[i]) / r1[i]``, up to a common
factor: ``r1[i] ** -1/2 * r2[i] ** 1/2``, with the ranges of the first layer's channels and of the second's.

Here a layer's weights have one scale for each output channel, so factors cost the first layer nothing, and what has one
scale for all channels is the tensor between. So ``r1`` is the range that channel ``i`` of that tensor takes on images,
``r2`` the largest weight that reads it, and the exponents are free::

    s[i] = r1[i] ** -a * r2[i] ** b

Of a grid of (a, b), with (0, 0) for no change and (1/2, 1/2) for the paper's rule, the one is taken whose rounding
adds least noise to the second layer's outputs::

    tensor:   (range / 255) ** 2 / 12 * sum over o, i of (W[o, i] / s[i]) ** 2
    weights:  sum over o, i of (W'[o, i] - round(W'[o, i])) ** 2 * s[i] ** 2 * E[x[i] ** 2],  W'[o, i] = W[o, i] / s[i]

where ``round`` is that of INT8 itself: weights that lie on an 8-bit grid already lose by any factor, and the formula
knows. For a depthwise second layer the rounding does not depend on ``s``, and every channel gets its part of the range.

What calibration saw of a quiet channel is not all that it can do; where the whole range once was room to spare, now it
may be clipped. So a channel gets :data:`HEADROOM` of the range, and no factor is larger than is worth it: four times
quieter than the range, a channel's share of the noise is down to a sixteenth once it is scaled.
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
"""Outputs of a layer, evenly chosen, on which rules are compared: each is a sample of the same kind."""

HEADROOM = 1.0
"""Share of the tensor's range that a channel may reach by scaling."""

BOUNDS = (4.0, 16.0, 64.0, 256.0)
"""Largest factor (and one over the smallest). The next is taken where it lessens the noise by a tenth."""


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """The tensor between two layers, by channel, on calibration images. All (channels,) float64.

    ``low``, ``high`` and ``square`` (the mean of the squares) are of what the second layer reads; ``limit`` is how far
    a channel may be scaled before a Clip between the layers would cut it; 1 where it does already.
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
    """Return the factors (channels,) float64 for a second layer that reads with ``weights``.

    ``weights`` is (groups, outputs of a group, channels of a group, taps). Ones where no factor helps.
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
    """Return the factors of one rule, such that the tensor's range stays and no Clip comes into play."""
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
