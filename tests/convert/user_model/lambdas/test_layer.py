"""The layer computes its expression, keeps the images of a batch apart, and saves itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.lambdas.tree import INPUT, Node, json_from_tree

load_keras()
X, Y = (Node(INPUT, (), {"index": index}) for index in (0, 1))
IMAGE = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 3)).astype(np.float32)


def made(node: Node) -> Any:
    from xxdeploy.convert.user_model.lambdas.layer import TranslatedLambda

    return TranslatedLambda(json_from_tree(node), name="own")


def test_values() -> None:
    scaled = made(Node("divide", (Node("subtract", (X, (1.0, 2.0, 3.0))), 2)))
    assert np.allclose(scaled(IMAGE), (IMAGE - [1, 2, 3]) / 2, atol=1e-6)
    assert (scaled.scales_pixels, scaled.passes_pixels) == (True, True)
    apart = made(Node("absolute", (Node("subtract", (X, Y)),)))
    assert np.allclose(apart([IMAGE, IMAGE[:, ::-1]]), np.abs(IMAGE - IMAGE[:, ::-1]))
    assert (apart.scales_pixels, apart.passes_pixels) == (False, False)
    larger = made(Node("upsample", (X,), {"factors": [2, 3], "interpolation": "nearest"}))
    assert np.allclose(larger(IMAGE), IMAGE.repeat(2, 1).repeat(3, 2))
    cut = made(Node("getitem", (X,), {"index": ["...", [None, None, -1]]}))
    assert np.allclose(cut(IMAGE), IMAGE[..., ::-1])


@pytest.mark.parametrize(
    "node",
    [
        Node("mean", (X,), {"axis": -4, "keepdims": False}),
        Node("softmax", (X,), {"axis": -4}),
        Node("flip", (X,), {"axis": [1, -4]}),
        Node("expand_dims", (X,), {"axis": -5}),
        Node("getitem", (X,), {"index": ["...", 0, 0, 0, 0]}),
    ],
)
def test_the_images_of_a_batch_stay_apart(node: Node) -> None:
    with pytest.raises(ValueError, match="batch"):
        made(node)(IMAGE)


def test_the_layer_saves_itself() -> None:
    layer = made(Node("clip", (X,), {"x_min": 0, "x_max": 1}))
    again = type(layer).from_config(layer.get_config())
    assert again.tree == layer.tree
