"""The sum of two pointwise convolutions becomes one convolution, where nothing else reads what they read."""

from __future__ import annotations

import pytest
from graphnets import apply

from xxdeploy.passes.merge_sums import merge_sums

GIVEN = "g (float[n, 3, 5, 4] x) => (float[n, 4, 5, 4] y)"
ARRAYS = "<float[3, 3, 1, 1] k, float[4, 3, 1, 1] v, float[4, 3, 1, 1] w, float[4] b, float[4] c>"
PAIR = "p = Conv(x, k)  q = Abs(x)"


@pytest.mark.parametrize(
    ("first", "second", "biases"),
    [("Conv(p, v, b)", "Conv(q, w, c)", 2), ("Conv(p, v)", "Conv(q, w, c)", 1), ("Conv(p, v)", "Conv(q, w)", 0)],
)
def test_two_become_one(first: str, second: str, biases: int) -> None:
    rewritten = apply(f"{GIVEN} {ARRAYS} {{ {PAIR}  l = {first}  r = {second}  y = Add(l, r) }}", merge_sums)
    assert rewritten.changed == (1,)
    assert rewritten.ops == {"Conv": 2, "Abs": 1, "Concat": 1}
    merged = next(node for node in rewritten.after.proto().graph.node if node.output[0] == "y")
    assert rewritten.arrays[merged.input[1]].shape == (4, 6, 1, 1)
    assert len(merged.input) == (3 if biases else 2)


def test_separable_branches_whose_order_is_not_that_of_the_sum() -> None:
    """As in NASNet; the second operand is written first, and the sum is read through a Relu."""
    rewritten = apply(
        """g (float[n, 3, 5, 4] x) => (float[n, 4, 5, 4] y)
        <float[3, 1, 3, 3] d, float[3, 1, 5, 5] e, float[4, 3, 1, 1] v, float[4, 3, 1, 1] w, float[4] b> {
          q = Conv<group = 3, pads = [2, 2, 2, 2]>(x, e)  r = Conv(q, w, b)
          p = Conv<group = 3, pads = [1, 1, 1, 1]>(x, d)  l = Conv(p, v)
          s = Add(l, r)  y = Relu(s) }""",
        merge_sums,
        merge_sums,
    )
    assert rewritten.changed == (1, 0)
    assert rewritten.ops == {"Conv": 3, "Concat": 1, "Relu": 1}
    assert list(rewritten.node("Concat").input) == ["p", "q"]


def test_three_in_a_row_become_two() -> None:
    """The second sum's operand is no longer read by one alone, or is no product any more: it stays a sum."""
    body = f"{PAIR}  z = Neg(x)  l = Conv(p, v)  r = Conv(q, w)  m = Conv(z, w)  s = Add(l, r)  y = Add(s, m)"
    rewritten = apply(f"{GIVEN} {ARRAYS} {{ {body} }}", merge_sums)
    assert rewritten.changed == (1,)
    assert rewritten.ops["Add"] == 1


@pytest.mark.parametrize(
    "body",
    [
        f"{PAIR}  l = Conv(p, v)  r = Conv(p, w)  y = Add(l, r)",  # both read the same tensor
        f"{PAIR}  l = Conv(p, v)  r = Conv(x, w)  y = Add(l, r)",  # others read the picture
        f"{PAIR}  l = Conv(p, v)  r = Conv(q, w)  s = Add(l, r)  y = Mul(s, l)",
        f"{PAIR}  l = Conv(p, v)  y = Add(l, l)",
        f"{PAIR}  l = Conv(p, v)  r = Conv(q, w)  y = Mul(l, r)",
        f"{PAIR}  l = Conv(p, v)  o = GlobalMaxPool(q)  r = Conv(o, w)  y = Add(l, r)",  # one is repeated
        f"{PAIR}  l = Conv(p, v)  r = Conv(q, w)  s = Relu(r)  y = Add(l, s)",
    ],
)
def test_what_stays(body: str) -> None:
    assert apply(f"{GIVEN} {ARRAYS} {{ {body} }}", merge_sums).changed == (0,)


@pytest.mark.parametrize(("options", "kernel"), [("strides = [2, 2]", 1), ("pads = [1, 1, 1, 1]", 3), ("group = 3", 1)])
def test_other_convolutions_stay(options: str, kernel: int) -> None:
    channels = 1 if "group" in options else 3
    rewritten = apply(
        f"""g (float[n, 3, 6, 6] x) => (float[n, 6, h, w] y)
        <float[6, {channels}, {kernel}, {kernel}] v, float[6, {channels}, {kernel}, {kernel}] u> {{
          p = Neg(x)  q = Abs(x)  l = Conv<{options}>(p, v)  r = Conv<{options}>(q, u)  y = Add(l, r) }}""",
        merge_sums,
    )
    assert rewritten.changed == (0,)
