"""Second moments of the values that a layer's weights are multiplied with, from the layer's quantized input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import attributes
from xxdeploy.optional import extra

with extra("export"):
    from onnx import NodeProto

POSITIONS = 24
"""Positions that are sampled from one image, at least; more if a layer has many taps."""

LARGEST = 4608
"""Most taps (inputs times kernel positions) of a layer: the matrix grows with their square."""

CONSTANT = 1e-5
"""Share of its mean square below which the variance of a tap counts as rounding noise of float32 sums."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments of the values that weights are multiplied with, over a batch of n images. All float32.

    ``means`` (n, groups, taps) is exact, over all positions of each image; ``first`` (groups, taps) and ``second``
    (groups, taps, taps) are sums over a sample of ``count`` positions.
    """

    means: NDArray[np.float32]
    count: int
    first: NDArray[np.float32]
    second: NDArray[np.float32]

    def __add__(self, other: Moments) -> Moments:
        means = np.concatenate([self.means, other.means])
        return Moments(means, self.count + other.count, self.first + other.first, self.second + other.second)

    @property
    def covariance(self) -> NDArray[np.float32]:
        """Covariance of the inputs, (groups, taps, taps); 0 where an input never changes."""
        mean, square = self.first / np.float32(self.count), self.second / np.float32(self.count)
        covariance = square - mean[:, :, None] * mean[:, None, :]
        moves = np.einsum("gtt->gt", covariance) > CONSTANT * np.einsum("gtt->gt", square)
        return np.asarray(covariance * (moves[:, :, None] & moves[:, None, :]), np.float32)


def taps_of(node: NodeProto, weights: NDArray[np.float32]) -> tuple[int, int, int]:
    """Return the shape of a layer's weights as (groups, outputs of a group, taps)."""
    if node.op_type == "Conv":
        groups = int(attributes(node).get("group", 1))
        return groups, weights.shape[0] // groups, int(np.prod(weights.shape[1:]))
    rows, columns = weights.shape if attributes(node).get("transB", 0) else weights.shape[::-1]
    return 1, rows, columns


def has_moments(weights: NDArray[np.float32], taps: int) -> bool:
    """Tell whether :func:`measure_moments` supports a layer: a matrix or 2-D convolution, ``LARGEST`` taps at most."""
    return weights.ndim in (2, 4) and taps <= LARGEST


def measure_moments(
    node: NodeProto, weights: NDArray[np.float32], values: NDArray[np.float32], seed: int | tuple[int, ...]
) -> Moments:
    """Return the moments of the patches of ``values`` (n, channels, ...) that ``node`` multiplies by its ``weights``.

    For a convolution they come from a sample of output positions, the same number for each image, padding included.
    """
    groups, _, taps = taps_of(node, weights)
    if node.op_type == "Conv":
        means, patches = _patches(node, weights, values, groups, taps, seed)
    else:
        patches = values.reshape(len(values), -1, 1, taps)
        means, patches = patches.mean(axis=1), patches.reshape(-1, 1, taps)
    by_group = np.ascontiguousarray(patches.transpose(1, 0, 2), np.float32)
    return Moments(means, by_group.shape[1], by_group.sum(axis=1), by_group.transpose(0, 2, 1) @ by_group)


def _patches(
    node: NodeProto,
    weights: NDArray[np.float32],
    values: NDArray[np.float32],
    groups: int,
    taps: int,
    seed: int | tuple[int, ...],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean patch of each image (n, groups, taps), and a sample of patches (positions, groups, taps)."""
    options = attributes(node)
    size = weights.shape[2:]
    strides, dilations = options.get("strides", [1, 1]), options.get("dilations", [1, 1])
    top, left, bottom, right = _pads(options, values.shape[2:], size, strides, dilations)
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    out = [(padded.shape[2 + i] - reach[i]) // strides[i] + 1 for i in range(2)]
    means = np.empty((*values.shape[:2], *size), np.float32)
    for row, column in np.ndindex(*size):
        at = row * dilations[0], column * dilations[1]
        ends = [at[i] + (out[i] - 1) * strides[i] + 1 for i in range(2)]
        window = padded[:, :, at[0] : ends[0] : strides[0], at[1] : ends[1] : strides[1]]
        means[:, :, row, column] = window.mean(axis=(2, 3))
    wanted = min(out[0] * out[1], max(POSITIONS, 2 * taps // max(len(values), 1)))
    chosen = np.random.default_rng(seed).choice(out[0] * out[1], wanted, replace=False)
    rows = (chosen // out[1] * strides[0])[:, None] + np.arange(size[0]) * dilations[0]
    columns = (chosen % out[1] * strides[1])[:, None] + np.arange(size[1]) * dilations[1]
    picked = padded[:, :, rows[:, :, None], columns[:, None, :]]  # (n, c, positions, kh, kw)
    patches = picked.transpose(0, 2, 1, 3, 4).reshape(-1, groups, taps)
    return means.reshape(len(values), groups, taps), patches


def _pads(
    options: dict[str, Any], shape: tuple[int, ...], size: tuple[int, ...], strides: list[int], dilations: list[int]
) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right."""
    auto = options.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        given = options.get("pads", [0, 0, 0, 0])
        return given[0], given[1], given[2], given[3]
    if auto == "VALID":
        return 0, 0, 0, 0
    pads = []
    for i in range(2):
        total = max((-(-shape[i] // strides[i]) - 1) * strides[i] + (size[i] - 1) * dilations[i] + 1 - shape[i], 0)
        pads.append((total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2))
    return pads[0][0], pads[1][0], pads[0][1], pads[1][1]
