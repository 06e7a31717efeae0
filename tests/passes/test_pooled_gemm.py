"""A 1x1 convolution after a global pool is a matrix product."""

from __future__ import annotations

import pytest
from graphnets import network, run_passes

from xxdeploy.passes.pooled_gemm import fuse_pooled_gemm

BODY = "p = GlobalAveragePool(x) c = Conv(p, w, b) y = Flatten(c)"
SIGNATURE = "(float[n,3,6,6] x) => (float[n,5] y)"


def test_a_classifier_over_one_position_becomes_a_gemm() -> None:
    operators, counts = run_passes(network(SIGNATURE, BODY, w=(5, 3, 1, 1), b=(5,)), fuse_pooled_gemm)
    assert (operators, counts) == (["GlobalAveragePool", "Flatten", "Gemm"], [1])


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("p = AveragePool<kernel_shape=[6,6]>(x) c = Conv(p, w) y = Flatten(c)", (5, 3, 1, 1)),  # no global pool
        ("p = GlobalAveragePool(x) c = Conv(p, w) f = Flatten(c) g = Flatten(c) y = Add(f, g)", (5, 3, 1, 1)),
        (
            "p = GlobalAveragePool(x) c = Conv<pads=[1,1,1,1]>(p, w) q = GlobalAveragePool(c) y = Flatten(q)",
            (5, 3, 3, 3),
        ),
    ],
)
def test_anything_else_stays(body: str, weights: tuple[int, ...]) -> None:
    assert run_passes(network(SIGNATURE, body, w=weights), fuse_pooled_gemm)[1] == [0]
