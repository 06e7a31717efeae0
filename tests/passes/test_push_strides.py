"""Strides of 1x1 convolutions go up to what makes their pixels; the outputs stay."""

from __future__ import annotations

import pytest
from graphnets import apply

from xxdeploy.passes.push_strides import push_strides, thin_out_reads

GIVEN = "g (float[n, 4, 9, 8] x) => (float[n, 4, h, w] y)"
ARRAYS = "<float[4, 4, 3, 3] k, float[4, 4, 1, 1] u, float[4, 4, 1, 1] v, float[4, 4, 1, 1] w, float[4] b>"
SAME = "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"
TWO = "strides = [2, 2]"


def net(body: str) -> str:
    return f"{GIVEN} {ARRAYS} {{ {body} }}"


def strides(rewritten: object) -> dict[str, list[int]]:
    """The strides of each convolution, by its weights."""
    by_weight = {}
    for node in rewritten.after.proto().graph.node:  # type: ignore[attr-defined]
        if node.op_type == "Conv":
            by_weight[node.input[1]] = next(
                (list(attribute.ints) for attribute in node.attribute if attribute.name == "strides"), [1, 1]
            )
    return by_weight


def test_the_end_of_a_stage_of_resnet() -> None:
    """The 3x3 convolution of the last block gets the stride; the shortcut, which others read, is thinned out."""
    rewritten = apply(
        net(
            f"s = Relu(x)  a = Conv<{SAME}>(s, k)  r = Relu(a)  c = Conv(r, u, b)  t = Add(c, s)  o = Relu(t)"
            f"  l = Conv<{TWO}>(o, v)  m = Conv<{TWO}>(o, w)  y = Add(l, m)"
        ),
        push_strides,
        push_strides,
    )
    assert rewritten.changed[0] > 0
    assert rewritten.changed[1] == 0
    assert strides(rewritten) == {"k": [2, 2], "u": [1, 1], "v": [1, 1], "w": [1, 1]}
    assert rewritten.ops == {"Conv": 4, "Relu": 3, "Add": 2, "MaxPool": 1}
    assert list(rewritten.node("MaxPool").input) == ["s"]
    names = {name for node in rewritten.after.proto().graph.node for name in node.output}
    assert not {"a", "r", "c", "t", "o"} & names  # they are no layers' outputs any more
    assert {"s", "l", "m", "y"} <= names


def test_strides_multiply_and_a_pool_of_one_pixel_is_a_stride() -> None:
    rewritten = apply(net(f"a = Conv<{SAME}, {TWO}>(x, k)  y = MaxPool<kernel_shape = [1, 1], {TWO}>(a)"), push_strides)
    assert rewritten.changed == (0,)  # the pool makes the output, whose name stays
    rewritten = apply(
        net(f"a = Conv<{SAME}, {TWO}>(x, k)  p = MaxPool<kernel_shape = [1, 1], {TWO}>(a)  y = Abs(p)"), push_strides
    )
    assert rewritten.changed == (1,)
    assert strides(rewritten) == {"k": [4, 4]}
    assert rewritten.ops == {"Conv": 1, "Abs": 1}


@pytest.mark.parametrize(
    "body",
    [
        f"a = Conv(x, u)  l = Conv<{TWO}>(a, v)  m = Conv<{SAME}>(a, k)  q = Conv<{TWO}>(m, w)  z = Exp(m)"
        "  f = Flatten(z)  e = Flatten(l)  y = Conv(a, w)",
        f"a = Conv(x, u)  l = Conv<{TWO}>(a, v)  m = Conv<strides = [3, 3]>(a, w)  y = Conv(a, w)",
        f"a = Conv(x, u)  y = Conv<kernel_shape = [3, 3], {TWO}>(a, k)",
        f"a = Conv(x, u)  y = Conv<{TWO}, pads = [1, 1, 1, 1]>(a, v)",
        "a = Conv(x, u)  y = Conv<strides = [2, 1]>(a, v)",
        f'a = Conv<auto_pad = "SAME_UPPER">(x, k)  y = Conv<{TWO}>(a, v)',
        f"a = Exp(x)  y = Conv<{TWO}>(a, v)",
        f"a = Relu(x)  c = Exp(x)  s = Add(c, x)  t = Conv<{TWO}>(s, v)  q = Abs(t)  y = Neg(q)",
    ],
)
def test_what_stays(body: str) -> None:
    before = apply(net(body))
    rewritten = apply(net(body), push_strides)
    assert rewritten.changed == (0,)
    assert rewritten.ops == before.ops


def test_a_sum_that_repeats_an_operand_stays() -> None:
    rewritten = apply(net(f"a = Conv(x, u)  p = GlobalMaxPool(x)  s = Add(a, p)  y = Conv<{TWO}>(s, v)"), push_strides)
    assert rewritten.changed == (0,)


def test_a_tensor_added_to_itself() -> None:
    rewritten = apply(net(f"a = Conv<{SAME}>(x, k)  r = Relu(a)  s = Add(r, r)  y = Conv<{TWO}>(s, v)"), push_strides)
    assert set(rewritten.ops) <= {"Conv", "Relu", "Add", "MaxPool"}


def test_reads_are_thinned_out() -> None:
    rewritten = apply(
        net(f"a = Relu(x)  l = Conv<{TWO}>(a, v)  m = MaxPool<kernel_shape = [1, 1], {TWO}>(a)  y = Add(l, m)"),
        thin_out_reads,
    )
    assert rewritten.changed == (1,)
    assert strides(rewritten) == {"v": [1, 1]}
    assert rewritten.ops == {"Relu": 1, "MaxPool": 2, "Conv": 1, "Add": 1}
