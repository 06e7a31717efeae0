"""Depthwise convolutions get whole blocks of 16 channels; what the graph computes stays."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import apply

from xxdeploy.passes.align_channels import align_channels

SEPARABLE = """g (float[n, 3, 8, 8] x) => (float[n, 5, 8, 8] y)
    <float[11, 3, 1, 1] v, float[11] b, float[11, 1, 3, 3] d, float[11] c, float[5, 11, 1, 1] w> {
      a = Conv(x, v, b)  r = Relu(a)
      e = Conv<group = 11, pads = [1, 1, 1, 1]>(r, d, c)
      y = Conv(e, w) }"""


def test_writers_and_readers_grow_with_it() -> None:
    rewritten = apply(SEPARABLE, align_channels)
    assert rewritten.changed == (3,)
    shapes = [
        rewritten.arrays[node.input[1]].shape for node in rewritten.after.proto().graph.node if node.op_type == "Conv"
    ]
    assert shapes == [(16, 3, 1, 1), (16, 1, 3, 3), (5, 16, 1, 1)]


def test_new_channels_are_zero() -> None:
    rewritten = apply(SEPARABLE, align_channels)
    nodes = [node for node in rewritten.after.proto().graph.node if node.op_type == "Conv"]
    for node in nodes[:2]:
        assert not any(rewritten.arrays[name][11:].any() for name in node.input[1:])
    assert not rewritten.arrays[nodes[2].input[1]][:, 11:].any()


def test_it_settles() -> None:
    assert apply(SEPARABLE, align_channels, align_channels).changed == (3, 0)


def test_a_cell_with_pools_sums_and_a_concat() -> None:
    text = """g (float[n, 4, 8, 8] x, float[n, 4, 8, 8] z) => (float[n, 6, 4, 4] y)
    <float[11, 4, 1, 1] v, float[20, 4, 1, 1] u, float[11, 1, 3, 3] d, float[20, 1, 3, 3] e, int64[8] pads,
     float[6, 42, 1, 1] w> {
      a = Conv(x, v)  b = Conv(z, u)
      da = Conv<group = 11, pads = [1, 1, 1, 1], strides = [2, 2]>(a, d)
      db = Conv<group = 20, pads = [1, 1, 1, 1], strides = [2, 2]>(b, e)
      pa = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a)
      s = Add(da, pa)
      q = Pad(a, pads)  m = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(q)
      c = Concat<axis = 1>(s, db, m)  r = Relu(c)
      y = Conv(r, w) }"""
    rewritten = apply(text, align_channels, pads=[0, 0, 0, 0, 0, 0, 1, 1])
    assert rewritten.changed == (5,)
    (last,) = [node for node in rewritten.after.proto().graph.node if node.output[0] == "y"]
    weights = rewritten.arrays[last.input[1]]
    assert weights.shape == (6, 64, 1, 1)  # 16 + 32 + 16
    filled = np.flatnonzero(weights.any(axis=(0, 2, 3)))
    assert filled.tolist() == [*range(11), *range(16, 36), *range(48, 59)]


def conv(channels: int, body: str, *, out: int = 5) -> str:
    return f"""g (float[n, 3, 8, 8] x) => (float[n, {out}, h, w] y)
    <float[{channels}, 3, 1, 1] v, float[{channels}, 1, 3, 3] d, float[5, {channels}, 1, 1] w5,
     float[5, {2 * channels}, 1, 1] w10, float[{channels}, 1, 1] k> {{ a = Conv(x, v)  {body} }}"""


@pytest.mark.parametrize(
    "text",
    [
        conv(16, "e = Conv<group = 16>(a, d)  y = Conv(e, w5)"),  # whole already
        conv(7, "e = Conv<group = 7>(a, d)  y = Conv(e, w5)"),  # would more than double
        conv(11, "y = Conv(a, w5)"),  # no depthwise one
        conv(11, "y = Conv<group = 11>(a, d)", out=11),  # an output of the graph
        conv(11, "e = Conv<group = 11>(a, d)  f = Neg(e)  y = Conv(f, w5)"),  # who knows what that does
        conv(11, "e = Conv<group = 11>(a, d)  f = Mul(e, k)  y = Conv(f, w5)"),
        # One of two tensors that are added has its zeros in the middle.
        conv(11, "c = Concat<axis = 1>(a, a)  s = Neg(c)  f = Add(c, s)  e = Conv<group = 11>(a, d)  "
                 "h = Conv(f, w10)  i = Conv(e, w5)  j = GlobalAveragePool(i)  y = Add(h, j)"),
    ],
)  # fmt: skip
def test_what_stays(text: str) -> None:
    assert apply(text, align_channels).changed == (0,)


def test_a_convolution_of_the_input_alone_stays() -> None:
    text = """g (float[n, 11, 8, 8] x) => (float[n, 5, 6, 6] y) <float[11, 1, 3, 3] d, float[5, 11, 1, 1] w>
        { e = Conv<group = 11>(x, d)  y = Conv(e, w) }"""
    assert apply(text, align_channels).changed == (0,)
