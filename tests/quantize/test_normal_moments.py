from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import parse

from xxdeploy.quantize.graph_view import GraphView
from xxdeploy.quantize.normal_moments import Moments, clipped, propagate

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


@pytest.mark.parametrize(("low", "high"), [(0, np.inf), (0, 6), (-1, 1), (-np.inf, 2), (-np.inf, np.inf)])
def test_the_formula_is_what_sampling_finds(low: float, high: float) -> None:
    mean, deviation = np.array([0.0, 1, -2, 5, 9, -9]), np.array([1.0, 2, 0.5, 3, 1, 1])
    sample = np.clip(np.random.default_rng(0).normal(mean, deviation, (400_000, 6)), low, high)
    found = clipped(mean, deviation, low, high)
    np.testing.assert_allclose(found[0], sample.mean(axis=0), atol=0.015)
    np.testing.assert_allclose(found[1], sample.std(axis=0), atol=0.015)


def test_a_channel_that_does_not_vary() -> None:
    mean, deviation = clipped(np.array([-1.0, 0.5, 9]), np.zeros(3), 0, 6)
    np.testing.assert_allclose(mean, [0, 0.5, 6])
    np.testing.assert_allclose(deviation, 0, atol=1e-6)


def moments(*means: float) -> Moments:
    return np.array(means), np.ones(len(means))


def graph() -> GraphView:
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    model = parse(
        HEAD
        + """g (float[n, 2, 8, 8] image) => (float[n, 3] out)
        {
          "a/Conv" = Conv(image, w)
          "b/Conv" = Conv("a/Conv", w)
          "b/Conv_2" = Conv("b/Conv", w)
          sum = Add("a/Conv", "b/Conv_2")
          both = Concat<axis = 1>(sum, "a/Conv")
          relu = Relu(both)
          small = AveragePool<kernel_shape = [2, 2]>(relu)
          top = MaxPool<kernel_shape = [2, 2]>(small)
          mean = GlobalAveragePool(small)
          flat = Flatten(mean)
          out = Gemm<transB = 1>(flat, v)
        }""",
        {"w": weights(2, 2, 1, 1), "v": weights(3, 4)},
    )
    return GraphView.of(model)


def test_through_a_graph() -> None:
    found = propagate(graph(), {"a": moments(1, -1), "b": moments(2, 3), "elsewhere": moments(9)})
    assert "b/Conv" not in found  # a layer of two convolutions is normalised behind the last
    np.testing.assert_array_equal(found["sum"][0], [3, 2])
    np.testing.assert_allclose(found["sum"][1], np.sqrt(2))
    np.testing.assert_array_equal(found["both"][0], [3, 2, 1, -1])
    np.testing.assert_array_equal(found["flat"][0], clipped(*found["both"], 0, np.inf)[0])
    assert not found.keys() & {"image", "top", "out"}


def test_nothing_follows_from_half_of_a_sum() -> None:
    found = propagate(graph(), {"b": moments(2, 3)})
    assert found.keys() == {"b/Conv_2"}


def test_a_layer_that_was_widened_with_zeros() -> None:
    model = parse(
        HEAD
        + """g (float[n, 2, 8, 8] image) => (float[n, 4, 8, 8] out) {
          "a/Conv" = Conv(image, w)
          out = Relu("a/Conv")
        }""",
        {"w": np.concatenate([np.ones((2, 2, 1, 1)), np.zeros((2, 2, 1, 1))]).astype(np.float32)},
    )
    mean, deviation = propagate(GraphView.of(model), {"a": moments(1, -5)})["out"]
    np.testing.assert_allclose(mean[2:], 0, atol=1e-9)
    np.testing.assert_allclose(deviation[2:], 0, atol=1e-6)
    assert mean[0] > 1
