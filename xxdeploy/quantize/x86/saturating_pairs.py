"""Saturating pairs: two weights that x86 processors without VNNI multiply and add in 16 bits, with saturation.

``vpmaddubsw`` adds the products of bytes ``x`` (0..255) and ``w`` (-128..127) in pairs::

    s = min(max(x[2k] * w[2k] + x[2k+1] * w[2k+1], -32768), 32767)

ONNX Runtime's kernels (MLAS, AVX2 and AVX512 without VNNI) run along an output channel's weights in the order (kernel
row, kernel column, input channel), each group separately, with a zero after an odd end; ``x`` is the input as stored,
with its zero point and the padding (int8 inputs plus 128). Random convolutions on an emulated Haswell confirm all of
that, see ``tests/quantize/x86/test_saturation_executed.py``. The sum can only overflow if both weights have the same
sign and ``|w[2k] + w[2k+1]| > 128``: 255 * 128 = 32640 fits into 16 bits, 255 * 129 does not. Depthwise convolutions
have other kernels, which add in 32 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import attributes
from xxdeploy.optional import extra

with extra("export"):
    from onnx import NodeProto

LARGEST_SUM = 128
"""Largest ``|w0 + w1|`` of two weights of one sign that fits into 16 bits when multiplied by 255."""


def adds_in_16_bits(node: NodeProto, shape: tuple[int, ...]) -> bool:
    """Tell whether the kernels for this Conv, Gemm or MatMul add pairs in 16 bits; depthwise ones do not.

    ``shape`` is that of the weights. A depth multiplier above 1 makes a depthwise convolution an ordinary one.
    """
    return node.op_type != "Conv" or shape[1] != 1 or shape[0] != attributes(node).get("group", 1)


def kernel_rows(weights: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return ``weights`` as (channels, k), in the order in which the kernels add their products.

    ``axis`` is that of the output channels: 0 or 1 of a matrix, 0 of a convolution (channels, inputs, *kernel).
    """
    first = np.moveaxis(weights, axis, 0)
    return np.moveaxis(first, 1, -1).reshape(len(first), -1)


def weights_from_rows(rows: NDArray[Any], axis: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Undo :func:`kernel_rows` for weights of ``shape``."""
    moved = [shape[axis], *(size for index, size in enumerate(shape) if index != axis)]
    last = rows.reshape([moved[0], *moved[2:], moved[1]])
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(last, -1, 1), 0, axis))


def saturating_pairs(values: NDArray[np.int8], axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (channel, k) of each pair of int8 weights that can saturate; k is an even index of :func:`kernel_rows`."""
    channels, firsts = np.nonzero(_excess(kernel_rows(values, axis))[:, ::2])
    return channels, 2 * firsts


def fit_saturating_pairs(
    values: NDArray[np.int8], axis: int, steps: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.int8]:
    """Return ``values`` with weights moved towards zero until no pair exceeds ``LARGEST_SUM``.

    If the kernel has several positions and an odd number of inputs, all neighbors along :func:`kernel_rows` count as
    pairs, whichever phase a kernel starts in; else only (0, 1), (2, 3) and so on. ``steps``, in the same layout, are
    the values before rounding: the reduction is divided so that the two weights stay as close to them as possible
    (least squares). Without ``steps`` both move alike.
    """
    rows = kernel_rows(values, axis).astype(np.int16)
    wanted = (rows if steps is None else kernel_rows(steps, axis)).astype(np.float64)
    for k in np.flatnonzero(_relevant(values.shape, rows) & _excess(rows).any(axis=0)):
        excess = _excess(rows[:, k : k + 2])[:, 0]
        size = np.abs(rows[:, k : k + 2])
        above = size - np.abs(wanted[:, k : k + 2])
        first = np.floor((excess + above[:, 0] - above[:, 1]) / 2 + 0.5)
        first = np.clip(first, np.maximum(excess - size[:, 1], 0), np.minimum(excess, size[:, 0])).astype(np.int16)
        rows[:, k : k + 2] -= np.sign(rows[:, k : k + 2]) * np.stack([first, excess - first], axis=1)
    return weights_from_rows(rows.astype(np.int8), axis, values.shape)


def narrow_scale(weights: NDArray[np.floating[Any]], axis: int) -> NDArray[np.float64]:
    """Return the smallest scale (channels,) at which no pair exceeds ``LARGEST_SUM``, apart from rounding.

    It is never larger than that of seven-bit weights, ``max|w| / 64``.
    """
    rows = kernel_rows(weights, axis).astype(np.float64)
    sums = np.where(_same_sign(rows), np.abs(rows[:, :-1] + rows[:, 1:]), 0.0)[:, _relevant(weights.shape, rows)]
    largest: NDArray[np.float64] = sums.max(axis=1, initial=0.0) / LARGEST_SUM
    return largest


def _excess(rows: NDArray[Any]) -> NDArray[np.int16]:
    """Return by how much each two neighbors exceed ``LARGEST_SUM``, (channels, k - 1)."""
    wide = rows.astype(np.int16)
    sums = np.abs(wide[:, :-1] + wide[:, 1:]) - LARGEST_SUM
    return np.where(_same_sign(wide), np.maximum(sums, 0), 0).astype(np.int16)


def _same_sign(rows: NDArray[Any]) -> NDArray[np.bool_]:
    signs = np.sign(rows)
    return np.asarray(signs[:, :-1] * signs[:, 1:] > 0)


def _relevant(shape: tuple[int, ...], rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which neighbors (k - 1,) count as pairs."""
    both_phases = len(shape) > 2 and shape[1] % 2 == 1 and int(np.prod(shape[2:])) > 1
    return np.asarray((np.arange(max(rows.shape[1] - 1, 0)) % 2 == 0) | both_phases)
