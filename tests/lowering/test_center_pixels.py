"""The integers of the image are the pixels, and the layers after it compute what they computed."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import apply, random_feeds, run

from xxdeploy.lowering.center_pixels import CENTERED, center_pixels, shift_input
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.runtime.image.grid import MIDDLE, ChannelGrid
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.scaling import Scaling

HEAD = """g (float[n, 8, 8, 3] image) => (float[n, 5, h, w] y)
    <float[5, 3, 3, 3] v, float[5] b, float[5, 3, 3, 3] u> { x = Transpose<perm = [0, 3, 1, 2]>(image) """
GRIDS = [
    ChannelGrid((104.0, 117.0, 124.0), (1.0, 1.0, 1.0), flip=True),
    ChannelGrid((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),
]


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
    rewritten = apply(HEAD + body, half)
    assert rewritten.changed == (count,)
    assert rewritten.ops["Sub"] == 1
    assert rewritten.after.proto().graph.node[0].output[0] == CENTERED


def test_padding_is_off_by_the_shift_at_the_border_alone() -> None:
    rewritten = apply(HEAD + "y = Conv<pads = [1, 1, 1, 1]>(x, v, b) }", half, same=False)
    feeds = random_feeds(rewritten.before, 2)
    error = np.abs(run(rewritten.after, feeds)["y"] - run(rewritten.before, feeds)["y"])
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


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    "body",
    [
        "y = Conv(x, v, b) }",
        "y = Conv(x, v) }",  # a bias is made
        "y = Conv<pads = [1, 2, 0, 3], strides = [2, 2]>(x, v, b) }",  # zero is padded in front, exactly
    ],
)
def test_the_layer_gives_what_it_gave(grid: ChannelGrid, body: str) -> None:
    def center(graph: Graph) -> int:
        return center_pixels(graph, grid)

    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    scaled = (images[..., ::-1] if grid.flip else images) - np.array(grid.mean, np.float32)
    scaled /= np.array(grid.deviation, np.float32)
    rewritten = apply(HEAD + body, center, feeds={"image": scaled})
    assert rewritten.changed == (1,)
    assert (rewritten.ops["Pad"], rewritten.ops["Gather"]) == (int("pads" in body), int(grid.flip))
    assert CENTERED in {node.output[0] for node in rewritten.after.proto().graph.node}
    assert not [item for item in rewritten.node("Conv").attribute if item.name == "pads"]


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, v, b)  c = Conv(x, u)  y = Add(a, c) }",
        "r = Relu(x)  y = Conv(r, v) }",
        'y = Conv<auto_pad = "SAME_UPPER">(x, v) }',
    ],
)
def test_what_stays(body: str) -> None:
    assert apply(HEAD + body, lambda graph: center_pixels(graph, GRIDS[0])).changed == (0,)
    one = ChannelGrid((1.0,), (1.0,))
    assert apply(HEAD + "y = Conv(x, v) }", lambda graph: center_pixels(graph, one)).changed == (0,)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(4, 5, mode="caffe"),
        Preprocess(4, 5, mode="torch"),
        Preprocess(4, 5, mode="custom", scaling=Scaling(1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bgr")),
        Preprocess(4, 5, 1, mode="custom", scaling=Scaling(1 / 255, (0.4,), (0.2,))),
    ],
)
def test_the_grid_of_a_preprocessing_gives_the_pixels_back(preprocess: Preprocess) -> None:
    shape = (3, 4, 5, preprocess.channels)
    pictures = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    grid = preprocess.channel_grid
    assert grid is not None
    scaled = preprocess.normalize(pictures)
    assert np.array_equal(grid.pixels(scaled), pictures)
    assert grid.pixels(pictures) is pictures
    low, high = grid.span
    assert low <= scaled.min()
    assert scaled.max() <= high
    assert preprocess.grid is None
    assert 0 < MIDDLE < 255


def test_modes_with_one_scale_have_none() -> None:
    assert Preprocess(4, 4).channel_grid is None
    assert Preprocess(4, 4, mode="none").channel_grid is None
