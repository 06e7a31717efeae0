"""Moments of the values that a layer's weights are multiplied with, from the layer's quantized input."""

from __future__ import annotations

from collections.abc import Sequence
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

PER_TAP = 4
"""Samples for each tap of a layer, at least, if its images have so many positions."""

LARGEST = 4608
"""Most taps (inputs times kernel positions) of a layer: the matrix grows with their square."""

CONSTANT = 1e-5
"""Share of its mean square below which the variance of a tap counts as rounding noise of float32 sums."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Values that weights are multiplied with, over a batch of n images. All float32.

    ``means`` (n, groups, taps) is that of all positions of each image; ``sample`` (count, groups, taps) holds the
    values at some positions, as many of each image.
    """

    means: NDArray[np.float32]
    sample: NDArray[np.float32]


def covariance(patches: Sequence[Patches]) -> NDArray[np.float32]:
    """Return the covariance of the sampled values, (groups, taps, taps); 0 where an input never changes."""
    by_group = np.concatenate([np.ascontiguousarray(batch.sample.transpose(1, 0, 2)) for batch in patches], axis=1)
    mean = by_group.mean(axis=1, dtype=np.float64)[:, None].astype(np.float32)
    by_group -= mean
    product = by_group.transpose(0, 2, 1) @ by_group / np.float32(by_group.shape[1])
    variance = np.einsum("gtt->gt", product)
    moves = variance > CONSTANT * (variance + mean[:, 0] ** 2)
    return np.asarray(product * (moves[:, :, None] & moves[:, None, :]), np.float32)


def taps_of(node: NodeProto, weights: NDArray[np.float32]) -> tuple[int, int, int]:
    """Return the shape of a layer's weights as (groups, outputs of a group, taps)."""
    if node.op_type == "Conv":
        groups = int(attributes(node).get("group", 1))
        return groups, weights.shape[0] // groups, int(np.prod(weights.shape[1:]))
    rows, columns = weights.shape if attributes(node).get("transB", 0) else weights.shape[::-1]
    return 1, rows, columns


def has_patches(node: NodeProto, weights: NDArray[np.float32]) -> bool:
    """Return whether :func:`look_at_patches` supports a layer: a plain matrix product or a 2-D convolution."""
    options = attributes(node)
    factors = float(options.get("alpha", 1)), float(options.get("beta", 1)), options.get("transA", 0)
    return weights.ndim in (2, 4) and factors == (1, 1, 0)


def look_at_patches(
    node: NodeProto, weights: NDArray[np.float32], values: NDArray[np.float32], *, images: int, seed: Sequence[int]
) -> Patches:
    """Return the patches of ``values`` (n, channels, ...) that ``node`` multiplies by its ``weights``.

    For a convolution the sample comes from some output positions, the same number for each image, padding included.
    ``images`` is the number of all images: together they give ``PER_TAP`` samples for each tap. With 0 images, or with
    more than ``LARGEST`` taps, the sample is empty.
    """
    groups, _, taps = taps_of(node, weights)
    if not 0 < taps <= LARGEST:
        images = 0
    if node.op_type == "Conv":
        return _of_convolution(node, weights, values, images, seed)
    rows = values.reshape(len(values), -1, 1, taps)
    return Patches(rows.mean(axis=1), rows.reshape(-1, groups, taps)[: None if images else 0])


def _of_convolution(
    node: NodeProto, weights: NDArray[np.float32], values: NDArray[np.float32], images: int, seed: Sequence[int]
) -> Patches:
    groups, _, taps = taps_of(node, weights)
    options, size, extent = attributes(node), weights.shape[2:], values.shape[2:]
    strides, dilations = options.get("strides", [1, 1]), options.get("dilations", [1, 1])
    pads = _pads(options, extent, size, strides, dilations)
    # The place in the image of each kernel position at each output position, by axis: (outputs, kernel).
    rows, columns = (
        np.arange(0, extent[i] + pads[i] + pads[i + 2] - (size[i] - 1) * dilations[i], strides[i])[:, None]
        + np.arange(size[i]) * dilations[i]
        - pads[i]
        for i in range(2)
    )
    # The mean over output positions is a product with the share of each pixel: padding counts, as zeros.
    across, down = (_shares(places, extent[i]) for i, places in ((1, columns), (0, rows)))
    means = np.matmul(down.T, (values.reshape(-1, extent[1]) @ across).reshape(*values.shape[:3], -1))
    count = len(rows) * len(columns)
    wanted = min(count, max(POSITIONS, -(-PER_TAP * taps // images))) if images else 0
    chosen = np.random.default_rng(seed).choice(count, wanted, replace=False)
    down_at, across_at = rows[chosen // len(columns)], columns[chosen % len(columns)]
    inside = [(places >= 0) & (places < extent[i]) for i, places in enumerate((down_at, across_at))]
    picked = values[
        :, :, np.clip(down_at, 0, extent[0] - 1)[:, :, None], np.clip(across_at, 0, extent[1] - 1)[:, None, :]
    ]  # (n, c, positions, kh, kw)
    if not (inside[0].all() and inside[1].all()):
        picked = picked * (inside[0][:, :, None] & inside[1][:, None, :])
    sample = picked.transpose(0, 2, 1, 3, 4).reshape(-1, groups, taps)
    return Patches(means.reshape(len(values), groups, taps), sample)


def _shares(places: NDArray[np.intp], extent: int) -> NDArray[np.float32]:
    """Return how large a share of the output positions reads each place of an axis, (extent, kernel)."""
    shares = np.zeros((extent, places.shape[1]), np.float32)
    for at in range(places.shape[1]):
        read = places[:, at]
        np.add.at(shares[:, at], read[(read >= 0) & (read < extent)], np.float32(1 / len(places)))
    return shares


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
