"""The first layer takes the scaling of each channel over, and gives what it gave."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import apply

from xxdeploy.lowering.center_pixels import center_pixels
from xxdeploy.lowering.shift_input import CENTERED
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
    result = apply(HEAD + body, center, feeds={"image": scaled})
    assert result.changed == (1,)
    assert (result.ops["Pad"], result.ops["Gather"]) == (int("pads" in body), int(grid.flip))
    assert CENTERED in {node.output[0] for node in result.after.proto().graph.node}
    assert not [item for item in result.node("Conv").attribute if item.name == "pads"]


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
