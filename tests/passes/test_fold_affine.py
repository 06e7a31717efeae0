"""Scales and shifts go into the convolution or dense layer before them, where one reader and one channel axis allow."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import NCHW, apply, network, random_feeds, run_passes

from xxdeploy.passes.fold_affine import fold_affine, scale_in_integers, split_batch_norm
from xxdeploy.passes.remove_dead import remove_dead

STATISTICS = "float[4] gamma, float[4] beta, float[4] mean, float[4] variance"


def variance(channels: int = 4) -> np.ndarray:
    return np.linspace(0.1, 3, channels).astype(np.float32)


def conv(body: str, weights: str, output: str = "float[n, 4, 6, 6] y") -> str:
    return f"g (float[n, 3, 6, 6] x) => ({output}) <float[4, 3, 3, 3] w, float[4] b, {weights}> {{ {body} }}"


PADDED = "Conv<pads = [1, 1, 1, 1]>"


@pytest.mark.parametrize(
    ("body", "weights", "count"),
    [
        (f"c = {PADDED}(x, w) y = Mul(c, s)", "float[1, 4, 1, 1] s", 1),
        (f"c = {PADDED}(x, w) y = Mul(s, c)", "float[4, 1, 1] s", 1),
        (f"c = {PADDED}(x, w, b) y = Mul(c, s)", "float[4, 1, 1] s", 1),
        (f"c = {PADDED}(x, w) y = Add(c, s)", "float[4, 1, 1] s", 1),
        (
            f"c = {PADDED}(x, w, b) m = Mul(c, s) a = Add(t, m) y = Mul(a, u)",
            "float[4, 1, 1] s, float t, float[1] u",
            3,
        ),
        (f"c = {PADDED}(x, w) m = Mul(c, s) a = Add(m, t) y = Relu(a)", "float[4,1,1] s, float[1, 4, 1, 1] t", 2),
    ],
)
def test_into_a_convolution(body: str, weights: str, count: int) -> None:
    rewritten = apply(conv(body, weights), fold_affine, remove_dead)
    assert rewritten.changed[0] == count
    assert rewritten.ops["Mul"] + rewritten.ops["Add"] == 0


def test_what_two_nodes_read_after_a_fold_keeps_its_value() -> None:
    """Hard-swish after a batch norm: the convolution has one reader, its folded batch norm has two."""
    body = f"c = {PADDED}(x, w) m = Mul(c, s) b = Add(m, s) p = Add(b, t) y = Mul(b, p)"
    rewritten = apply(conv(body.replace("b =", "n =").replace("(b,", "(n,"), "float[4, 1, 1] s, float t"), fold_affine)
    assert rewritten.changed == (2,)
    assert rewritten.ops == {"Conv": 1, "Add": 1, "Mul": 1}


def test_into_a_grouped_a_depthwise_and_a_three_dimensional_convolution() -> None:
    text = """g (float[n, 4, 6, 6] x, float[n, 2, 4, 4, 4] v) => (float[n, 4, h, k] y, float[n, 3, d, h, k] z)
    <float[4, 2, 3, 3] w, float[4, 1, 3, 3] q, float[3, 2, 2, 2, 2] r, float[4, 1, 1] s, float[3, 1, 1, 1] t>
    { a = Conv<group = 2>(x, w) b = Mul(a, s) c = Conv<group = 4>(b, q) y = Add(c, s)
      d = Conv(v, r) z = Mul(d, t) }"""
    rewritten = apply(text, fold_affine)
    assert rewritten.changed == (3,)
    assert rewritten.ops == {"Conv": 3}


def test_a_scale_goes_into_a_dense_layer_a_shift_does_not() -> None:
    text = """g (float[n, 3] x) => (float[n, 4] y) <float[3, 4] w, float[1, 4] s, float[4] t>
    { a = MatMul(x, w) b = Mul(a, s) y = Add(b, t) }"""
    rewritten = apply(text, fold_affine)
    assert rewritten.changed == (1,)
    assert rewritten.ops == {"MatMul": 1, "Add": 1}


LEFT = {
    "read twice": (f"c = {PADDED}(x, w) m = Mul(c, s) y = Sub(c, m)", "float[4, 1, 1] s"),
    "along the width": (f"c = {PADDED}(x, w) y = Mul(c, s)", "float[6] s"),
    "per pixel": (f"c = {PADDED}(x, w) y = Add(c, s)", "float[1, 4, 6, 6] s"),
    "per image": (f"c = {PADDED}(x, w) m = Mul(c, s) y = ReduceSum<keepdims = 1>(m, zero)",
                  "float[5, 1, 1, 1] s, int64[1] zero = {0}"),
    "two constants": (f"c = {PADDED}(x, w) a = Add(s, t) q = Sigmoid(a) y = Mul(c, q)", "float[4, 1, 1] s, float t"),
    "no constant": (f"c = {PADDED}(x, w) y = Mul(c, c)", "float[4, 1, 1] s"),
    "an activation between": (f"c = {PADDED}(x, w) r = Relu(c) y = Mul(r, s)", "float[4, 1, 1] s"),
    "bias computed": (f"e = Sigmoid(b) c = {PADDED}(x, w, e) y = Mul(c, s)", "float[4, 1, 1] s"),
    "weight computed": (f"e = Sigmoid(w) c = {PADDED}(x, e) y = Mul(c, s)", "float[4, 1, 1] s"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_left_alone(name: str) -> None:
    output = "float[n, 4, 6, 6] y" if name != "per image" else "float[1, 4, 6, 6] y"
    feeds = {"x": random_feeds(apply(conv(*LEFT[name], output), same=False).before, 5)["x"]}
    assert apply(conv(*LEFT[name], output), fold_affine, feeds=feeds).changed == (0,)


def test_a_scalar_with_an_axis_more_is_left() -> None:
    output = "float[1, n, 4, 6, 6] y"
    text = conv(f"c = {PADDED}(x, w) y = Mul(c, s)", "float[1, 1, 1, 1, 1] s", output)
    assert apply(text, fold_affine).changed == (0,)


def test_weights_that_two_layers_share() -> None:
    body = f"c = {PADDED}(x, w, b) d = {PADDED}(x, w, b) m = Mul(c, s) e = Mul(d, t) y = Sub(m, e)"
    rewritten = apply(conv(body, "float[4, 1, 1] s, float[4, 1, 1] t"), fold_affine, remove_dead)
    assert rewritten.changed[0] == 2
    assert rewritten.ops == {"Conv": 2, "Sub": 1}
    assert len(rewritten.arrays) == 4


def test_an_output_in_the_middle_keeps_its_value() -> None:
    body = f"c = {PADDED}(x, w) y = Mul(c, s)"
    rewritten = apply(conv(body, "float[4, 1, 1] s", "float[n, 4, 6, 6] c, float[n, 4, 6, 6] y"), fold_affine)
    assert rewritten.changed == (0,)
    body = f"c = {PADDED}(x, w) y = Mul(c, s) z = Add(y, s)"
    rewritten = apply(conv(body, "float[4, 1, 1] s", "float[n, 4, 6, 6] y, float[n, 4, 6, 6] z"), fold_affine)
    assert rewritten.changed == (1,)
    assert rewritten.ops == {"Conv": 1, "Add": 1}


def test_float16_is_left() -> None:
    text = """g (float16[n, 3, 6, 6] x) => (float16[n, 4, h, v] y) <float16[4, 3, 3, 3] w, float16[4, 1, 1] s>
    { c = Conv(x, w) y = Mul(c, s) }"""
    assert apply(text, fold_affine, same=False).changed == (0,)  # the CPU has no float16 convolution to compare with


def test_batch_norm_of_a_convolution_vanishes() -> None:
    body = f"c = {PADDED}(x, w) y = BatchNormalization<epsilon = 0.01>(c, gamma, beta, mean, variance)"
    rewritten = apply(conv(body, STATISTICS), split_batch_norm, fold_affine, remove_dead, variance=variance())
    assert rewritten.changed[:2] == (1, 2)
    assert rewritten.ops == {"Conv": 1}


@pytest.mark.parametrize("shape", ["n, 4", "n, 4, 5", "n, 4, 2, 2, 2"])
def test_batch_norm_of_any_rank_is_split(shape: str) -> None:
    text = f"""g (float[{shape}] x) => (float[{shape}] y) <{STATISTICS}>
    {{ y = BatchNormalization(x, gamma, beta, mean, variance) }}"""
    rewritten = apply(text, split_batch_norm, variance=variance())
    assert rewritten.ops == {"Mul": 1, "Add": 1}


def test_batch_norm_that_learns_or_reads_computed_statistics_is_left() -> None:
    text = """g (float[5, 4, 2, 2] x) => (float[5, 4, 2, 2] y)
    <float[4] gamma, float[4] beta, float[4] mean, float[4] v>
    { u, m, n = BatchNormalization<training_mode = 1>(x, gamma, beta, mean, v)
      e = Exp(v) y = BatchNormalization(u, gamma, beta, mean, e) }"""
    rewritten = apply(text, split_batch_norm, v=variance())
    assert rewritten.changed == (0,)
    assert rewritten.ops["BatchNormalization"] == 2


def test_batch_norm_of_unknown_rank_is_left() -> None:
    text = f"""g (float[n, 8] x, int64[r] shape) => (float[n, 4, a, b] y) <{STATISTICS}>
    {{ z = Reshape(x, shape) y = BatchNormalization(z, gamma, beta, mean, variance) }}"""
    feeds = {"x": np.ones((3, 8), np.float32), "shape": np.array([3, 4, 2, 1])}
    assert apply(text, split_batch_norm, feeds=feeds, variance=variance()).changed == (0,)


def test_batch_norm_folds_into_the_convolution_before_it() -> None:
    body = "c = Conv(x, w) y = BatchNormalization<epsilon=0.001>(c, g, b, m, v)"
    weights = {"w": (4, 3, 3, 3), "g": (4,), "b": (4,), "m": (4,), "v": np.array([1, 2, 3, 4], np.float32)}
    operators, counts = run_passes(network(NCHW, body, **weights), split_batch_norm, fold_affine)
    assert (operators, counts) == (["Conv"], [1, 2])


@pytest.mark.parametrize(
    ("body", "arrays"),
    [
        ("c = Conv(x, w) r = Relu(c) s = Mul(c, f) y = Add(r, s)", {"f": (4, 1, 1)}),  # read twice
        ("c = Conv(x, w) y = Mul(c, f)", {"f": (1, 1, 4, 4)}),  # per pixel, not per channel
        ("c = Conv(x, w) r = Relu(c) y = Mul(r, f)", {"f": (4, 1, 1)}),  # an activation between
    ],
)
def test_fold_affine_leaves_what_is_not_a_layer_of_its_own(body: str, arrays: dict[str, object]) -> None:
    _, (count,) = run_passes(network(NCHW, body, w=(4, 3, 3, 3), **arrays), fold_affine)
    assert count == 0


def test_a_shared_weight_is_folded_for_one_reader_only() -> None:
    body = "a = Conv(x, w) b = Mul(a, f) c = Conv(x, w) y = Add(b, c)"
    operators, (count,) = run_passes(network(NCHW, body, w=(4, 3, 3, 3), f=(4, 1, 1)), fold_affine)
    assert (operators, count) == (["Conv", "Conv", "Add"], 1)


GIVEN = "g (float[n, 16, 5, 4] x) => (float[n, 16, 5, 4] y)"
ARRAYS = "<float[16] s, float[16] b, float[16] m, float[16] v>"
VARIANCE = np.linspace(0.1, 3, 16)


def norm(source: str, options: str = "") -> str:
    made = "r = Relu(x)  a = Add(r, x)  c = Concat<axis = 1>(x)  p = MaxPool<kernel_shape = [1, 1]>(x)"
    return f"{GIVEN} {ARRAYS} {{ {made}  y = BatchNormalization{options}({source}, s, b, m, v) }}"


@pytest.mark.parametrize("options", ["", "<epsilon = 0.1>"])
@pytest.mark.parametrize("source", ["a", "c", "p"])
def test_what_is_normalized(source: str, options: str) -> None:
    rewritten = apply(norm(source, options), scale_in_integers, v=VARIANCE)
    assert rewritten.changed == (1,)
    assert rewritten.attribute("Conv", "group") == 16
    assert list(rewritten.node("Conv").output) == ["y"]


@pytest.mark.parametrize("text", [norm("x"), norm("r")])
def test_what_else_is_normalized_stays(text: str) -> None:
    assert apply(text, scale_in_integers, v=VARIANCE).changed == (0,)
