"""The image is shifted by half a step, and the layers behind it give what they gave."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import apply, random_feeds, run

from xxdeploy.lowering.shift_input import CENTERED, shift_input
from xxdeploy.onnxmodel.graph import Graph

HEAD = """g (float[n, 8, 8, 3] image) => (float[n, 5, h, w] y)
    <float[5, 3, 3, 3] v, float[5] b, float[5, 3, 3, 3] u> { x = Transpose<perm = [0, 3, 1, 2]>(image) """


def half(graph: Graph) -> int:
    return shift_input(graph, 0.25)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("y = Conv(x, v, b) }", 1),
        ("y = Conv(x, v) }", 1),  # a bias is made
        ("a = Conv(x, v, b)  c = Conv(x, u)  y = Add(a, c) }", 2),
    ],
)
def test_without_padding_it_is_exact(body: str, count: int) -> None:
    result = apply(HEAD + body, half)
    assert result.changed == (count,)
    assert result.ops["Sub"] == 1
    assert result.after.proto().graph.node[0].output[0] == CENTERED


def test_padding_is_off_by_the_shift_at_the_border_alone() -> None:
    result = apply(HEAD + "y = Conv<pads = [1, 1, 1, 1]>(x, v, b) }", half, same=False)
    feeds = random_feeds(result.before, 2)
    error = np.abs(run(result.after, feeds)["y"] - run(result.before, feeds)["y"])
    assert error[:, :, 1:-1, 1:-1].max() < 1e-5 < error.max() < 0.25 * 15 * 1.25  # of 27 weights up to 15 meet zeros


@pytest.mark.parametrize(
    "body",
    [
        "r = Relu(x)  y = Conv(r, v) }",
        "a = Conv(x, v)  c = Slice(x, i, j)  d = ReduceMean(c)  y = Add(a, d) }",
    ],
)
def test_other_readers_keep_the_image(body: str) -> None:
    text = HEAD.replace("float[5, 3, 3, 3] u", "float[5, 3, 3, 3] u, int64[1] i, int64[1] j") + body
    assert apply(text, half, i=[0], j=[1]).changed == (0,)


def test_an_image_that_is_read_twice_stays() -> None:
    text = HEAD + "a = Conv(x, v)  d = ReduceMean(image)  y = Add(a, d) }"
    assert apply(text, half).changed == (0,)
