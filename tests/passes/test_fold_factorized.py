"""NASNet's factorized reduction becomes one 2x2 convolution, and only that does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphnets import apply

from xxdeploy.passes.fold_factorized import fold_factorized

END = 2**31 - 1


def reduction(size: int = 8, *, more: str = "", pool: str = "kernel_shape = [1, 1], strides = [2, 2]") -> str:
    """Return the two branches over a ``size`` x ``size`` input; ``more`` stands in for the end of the graph."""
    return f"""g (float[n, 5, {size}, {size}] x) => (float[n, 5, h, w] y)
    <float[3, 5, 1, 1] v, float[2, 5, 1, 1] w, int64[8] pads, int64[4] starts, int64[4] ends, int64[4] axes> {{
      r = Relu(x)  a = AveragePool<{pool}>(r)  left = Conv(a, v)
      p = Pad(r, pads)  s = Slice(p, starts, ends, axes)  b = AveragePool<{pool}>(s)  right = Conv(b, w)
      {more or "y = Concat<axis = 1>(left, right)"} }}"""


CONSTANTS: dict[str, Any] = {
    "pads": [0, 0, 0, 0, 0, 0, 1, 1],
    "starts": [0, 1, 1, 0],
    "ends": [END] * 4,
    "axes": [0, 2, 3, 1],
}


@pytest.mark.parametrize("size", [8, 7, 2, 3])
def test_two_branches_become_one_convolution(size: int) -> None:
    rewritten = apply(reduction(size), fold_factorized, **CONSTANTS)
    assert rewritten.changed == (1,)
    assert rewritten.ops == {"Relu": 1, "Conv": 1}
    assert rewritten.attribute("Conv", "strides") == [2, 2]
    assert rewritten.attribute("Conv", "pads") == [0, 0, size % 2, size % 2]  # the zero that the last window may need


def test_each_filter_has_one_tap() -> None:
    rewritten = apply(reduction(), fold_factorized, **CONSTANTS)
    kernel = rewritten.arrays[rewritten.node("Conv").input[1]]
    assert [tuple(np.argwhere(np.abs(row).sum(axis=0))[0]) for row in kernel] == [(0, 0)] * 3 + [(1, 1)] * 2


def test_it_folds_again_on_nothing() -> None:
    rewritten = apply(reduction(), fold_factorized, fold_factorized, **CONSTANTS)
    assert rewritten.changed == (1, 0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pads": [0, 0, 1, 1, 0, 0, 1, 1]}, reduction(7)),  # not a shift: a border on every side
        ({"starts": [0, 1, 1, 1]}, None),  # a channel is cut off
        ({"ends": [END, 8, 8, END]}, None),  # not to the end of what the Pad made
        ({}, reduction(more="c = Concat<axis = 1>(left, right)  m = Relu(left)  y = Concat<axis = 1>(m, right)")),
        ({}, reduction(more="z = Relu(right)  y = Concat<axis = 1>(left, z)")),
        ({}, reduction(pool="kernel_shape = [2, 2], strides = [2, 2]")),
        (
            {},
            reduction(more="y = Concat<axis = 1>(left, left)").replace("[n, 5, h", "[n, 6, h"),
        ),  # no shift: nothing to gain
    ],
)
def test_what_stays(changes: dict[str, Any], text: str | None) -> None:
    text = text or reduction()
    if changes.get("starts", [0])[-1] == 1:
        text = text.replace("float[2, 5, 1, 1] w", "float[2, 4, 1, 1] w")
    same = apply(text, fold_factorized, same=False, **{**CONSTANTS, **changes})
    assert same.changed == (0,)
