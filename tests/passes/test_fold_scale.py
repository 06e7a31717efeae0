"""The scale of raw pixels goes into the first convolution, and what stands between them stays right."""

from __future__ import annotations

import pytest
from graphnets import apply

from xxdeploy.passes.fold_scale import fold_scale
from xxdeploy.passes.remove_dead import remove_dead

PADDED = "Conv<pads = [1, 1, 1, 1]>"
IMAGE = "float[n, 6, 6, 3] x"
MAPS = "float[n, 3, 6, 6] x"


def net(body: str, weights: str, image: str = MAPS, kernel: str = "float[4, 3, 3, 3] w") -> str:
    return f"g ({image}) => (float[n, 4, 6, 6] y) <{kernel}, {weights}> {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "weights", "image", "left"),
    [
        (f"a = Mul(x, s) y = {PADDED}(a, w)", "float s", MAPS, {"Conv": 1}),
        (f"a = Mul(s, x) y = {PADDED}(a, w)", "float[1] s", MAPS, {"Conv": 1}),
        (f"a = Div(x, s) y = {PADDED}(a, w)", "float[3, 1, 1] s", MAPS, {"Conv": 1}),
        (f"a = Mul(x, s) b = Add(a, t) y = {PADDED}(b, w)", "float s, float t", MAPS, {"Add": 1, "Conv": 1}),
        (
            f"a = Div(x, s) b = Sub(a, t) c = Transpose<perm = [0, 3, 1, 2]>(b) y = {PADDED}(c, w)",
            "float[3] s, float[3] t", IMAGE, {"Sub": 1, "Transpose": 1, "Conv": 1},
        ),
        (
            f"a = Div(x, r) b = Add(t, a) c = Div(b, s) d = Transpose<perm = [0, 3, 1, 2]>(c) y = {PADDED}(d, w)",
            "float r, float[1, 1, 1, 3] t, float[3] s", IMAGE, {"Add": 1, "Transpose": 1, "Conv": 1},
        ),
        (
            f"a = Mul(x, s) b = Transpose<perm = [0, 3, 1, 2]>(a) c = Add(b, t) y = {PADDED}(c, w)",
            "float s, float[3, 1, 1] t", IMAGE, {"Add": 1, "Transpose": 1, "Conv": 1},
        ),
    ],
)  # fmt: skip
def test_into_the_convolution_behind(body: str, weights: str, image: str, left: dict[str, int]) -> None:
    rewritten = apply(net(body, weights, image), fold_scale, remove_dead)
    assert rewritten.ops == left
    assert rewritten.changed[0] == body.count("Mul") + body.count("Div")


def test_a_scalar_goes_into_a_grouped_convolution_a_vector_does_not() -> None:
    body = "a = Mul(x, s) y = Conv<pads = [1, 1, 1, 1], group = 4>(a, w)"
    image = "float[n, 4, 6, 6] x"
    kernel = "float[4, 1, 3, 3] w"
    assert apply(net(body, "float s", image, kernel), fold_scale).changed == (1,)
    assert apply(net(body, "float[4, 1, 1] s", image, kernel), fold_scale).changed == (0,)


@pytest.mark.parametrize(
    ("body", "weights", "image"),
    [
        (f"a = Div(s, x) y = {PADDED}(a, w)", "float s", MAPS),
        (f"a = Mul(x, s) r = Relu(a) y = {PADDED}(r, w)", "float s", MAPS),
        (f"a = Mul(x, s) y = {PADDED}(a, w)", "float[6, 6] s", MAPS),
        (f"a = Mul(x, s) y = {PADDED}(a, w)", "float[1, 3, 6, 6] s", MAPS),
        (f"a = Mul(x, s) c = {PADDED}(a, w) r = ReduceSum(a, k) y = Add(c, r)", "float s, int64[1] k = {1}", MAPS),
        (f"a = Mul(x, s) b = Sub(t, a) y = {PADDED}(b, w)", "float s, float t", MAPS),
        (
            f"a = Mul(x, s) b = Transpose<perm = [0, 3, 1, 2]>(a) c = Add(b, t) y = {PADDED}(c, w)",
            "float[3] s, float[3, 1, 1] t", IMAGE,
        ),
        (f"a = Mul(x, s) b = Transpose<perm = [0, 3, 2, 1]>(a) y = {PADDED}(b, w)", "float s", IMAGE),
        (f"a = Mul(x, s) y = {PADDED}(a, w)", "float s = {0.0}", MAPS),
    ],
)  # fmt: skip
def test_what_stays(body: str, weights: str, image: str) -> None:
    assert apply(net(body, weights, image), fold_scale).changed == (0,)


def test_a_shared_weight_is_not_changed_for_the_other() -> None:
    text = f"""g ({MAPS}) => (float[n, 4, 6, 6] y) <float[4, 3, 3, 3] w, float s>
    {{ a = Mul(x, s) b = {PADDED}(a, w) c = {PADDED}(x, w) y = Add(b, c) }}"""
    assert apply(text, fold_scale).changed == (1,)


def test_an_output_stays_what_it_is() -> None:
    text = f"""g ({MAPS}) => (float[n, 4, 6, 6] y, float[n, 3, 6, 6] a) <float[4, 3, 3, 3] w, float s>
    {{ a = Mul(x, s) y = {PADDED}(a, w) }}"""
    assert apply(text, fold_scale).changed == (0,)
