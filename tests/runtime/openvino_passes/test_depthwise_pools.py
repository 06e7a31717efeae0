"""Average pools as depthwise convolutions: every way of padding, the same means."""

from __future__ import annotations

import pytest
from ovgraphs import apply

from xxdeploy.runtime.openvino_passes.depthwise_pools import pool_by_depthwise

BOTH = "d = DequantizeLinear(x, s, z)  p = AveragePool<{how}>(d) "


@pytest.mark.parametrize(
    "how",
    [
        "kernel_shape = [3, 3], pads = [1, 1, 1, 1]",
        "kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1",
        "kernel_shape = [3, 3], pads = [0, 0, 1, 1], strides = [2, 2]",
        "kernel_shape = [2, 3], pads = [1, 2, 0, 0], strides = [3, 1]",
        "kernel_shape = [3, 3], strides = [2, 2]",
    ],
)
def test_the_same_means(how: str) -> None:
    result = apply(pool_by_depthwise, BOTH.format(how=how) + "y = Add(p, t)")
    assert result.count == 1
    assert result.after["GroupConvolution"] == 1
    assert result.off < 1e-5


@pytest.mark.parametrize(
    ("how", "tail"),
    [
        ("kernel_shape = [3, 3]", "y = Relu(p)"),
        ("kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1", "y = Add(p, t)"),
    ],
    ids=["not added", "rounded up"],
)
def test_what_stays(how: str, tail: str) -> None:
    result = apply(pool_by_depthwise, BOTH.format(how=how) + tail)
    assert (result.count, result.after) == (0, result.before)


def test_a_pool_of_floats_stays() -> None:
    result = apply(pool_by_depthwise, "f = Cast<to = 1>(x)  p = AveragePool<kernel_shape = [3, 3]>(f)  y = Add(p, t)")
    assert (result.count, result.after) == (0, result.before)
