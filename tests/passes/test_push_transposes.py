"""The graph moves to NCHW in one sweep; one Transpose is left."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import network, run_passes

from xxdeploy.passes.fold_constants import fold_constants
from xxdeploy.passes.push_transposes import push_transposes
from xxdeploy.passes.remove_dead import remove_dead

TO, BACK = "Transpose<perm=[0,3,1,2]>", "Transpose<perm=[0,2,3,1]>"
NHWC = "(float[n,6,6,3] x) => (float[n,h,w,c] y)"


def nhwc(middle: str, tail: str = "z = GlobalAveragePool(m) y = Flatten(z)") -> str:
    """Return a body as tf2onnx writes it: a convolution, ``middle`` in NHWC from ``a`` to ``b``, another one."""
    return f"""xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) {middle} bt = {TO}(b) m = Conv(bt, v) {tail}"""


@pytest.mark.parametrize(
    ("middle", "arrays"),
    [
        ("b = Relu(a)", {}),
        ("s = Mul(a, f) b = Add(t, s)", {"f": (4,), "t": (1, 1, 1, 4)}),
        ("b = Mul(a, f)", {"f": (4, 4, 1)}),
        ("p = Pad(a, pads) b = Slice(p, ones, ends, axes)", {
            "pads": np.array([0, 1, 2, 0, 0, 0, 1, 0]), "ones": np.array([1, 1]), "ends": np.array([5, 99]),
            "axes": np.array([1, -2])}),
        ("r = Relu(a) q = Concat<axis=3>(a, r) g = ReduceMean<axes=[1,2], keepdims=1>(q) h = Mul(q, g) "
         "b = Slice(h, zero, four, last)", {"zero": np.array([0]), "four": np.array([4]), "last": np.array([3])}),
        ("b = Softmax<axis=-1>(a)", {}),
        ("n = ReduceMax<axes=[3], keepdims=1>(a) b = Sub(a, n)", {}),
        ("u = Clip(a) b = PRelu(u, f)", {"f": (1, 1, 4)}),
    ],
)  # fmt: skip
def test_push_transposes_leaves_one(middle: str, arrays: dict[str, object]) -> None:
    signature = "(float[n,6,6,3] x) => (float[n,5] y)"
    graph = network(signature, nhwc(middle), w=(4, 3, 3, 3), v=(5, 4, 1, 1), **arrays)
    operators, _ = run_passes(graph, push_transposes, fold_constants, remove_dead)
    assert operators.count("Transpose") == 1


def test_what_insists_on_nhwc_gets_it() -> None:
    graph = network(NHWC, f"xt = {TO}(x) c = Conv(xt, w) y = {BACK}(c)", w=(4, 3, 3, 3))
    assert run_passes(graph, push_transposes)[0].count("Transpose") == 2  # the output is NHWC
    reduced = network("(float[n,6,6,3] x) => (float[n,h,c] y)",
                    f"xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) r = Relu(a) y = ReduceMean<axes=[1], keepdims=0>(r)",
                    w=(4, 3, 3, 3))  # fmt: skip
    run_passes(reduced, push_transposes)


def test_a_dense_layer_behind_flatten_reads_nchw_through_permuted_rows() -> None:
    body = f"xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) f = Reshape(a, flat) d = MatMul(f, m) y = Add(d, b)"
    arrays = {"w": (4, 3, 3, 3), "flat": np.array([-1, 64]), "m": (64, 5), "b": (5,)}
    graph = network("(float[n,6,6,3] x) => (float[n,5] y)", body, **arrays)
    assert run_passes(graph, push_transposes)[0].count("Transpose") == 1


def test_an_activation_behind_flatten_keeps_the_order_of_nhwc() -> None:
    body = f"xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) f = Reshape(a, flat) y = Relu(f)"
    graph = network("(float[n,6,6,3] x) => (float[n,64] y)", body, w=(4, 3, 3, 3), flat=np.array([-1, 64]))
    assert run_passes(graph, push_transposes)[0].count("Transpose") == 2
