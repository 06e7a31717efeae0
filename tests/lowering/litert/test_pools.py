"""Pools, reductions and resizing in LiteRT give the answers of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from litertnets import error, in_int8, network, steps, weights

from xxdeploy.errors import ConversionError
from xxdeploy.lowering.litert.write import to_litert

POOLS = {
    "max, valid": ("MaxPool<kernel_shape = [2, 2], strides = [2, 2]>", (4, 4)),
    "max, same": ("MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 1, 1]>", (5, 4)),
    "max, other pads": ("MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>", (5, 4)),
    "max, rounded up": ("MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>", (5, 4)),
    "average, valid": ("AveragePool<kernel_shape = [2, 2], strides = [2, 2]>", (4, 4)),
    "average, same": ("AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>", (9, 8)),
    "average, counting": ("AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>", (9, 8)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_are_equal_in_float(name: str) -> None:
    operator, (height, width) = POOLS[name]
    assert error(network(f"y = {operator}(x)", f"float[n, 3, {height}, {width}]")) < 1e-5


@pytest.mark.parametrize("name", POOLS)
def test_integer_pools_differ_by_one_step_at_most(name: str) -> None:
    operator, (height, width) = POOLS[name]
    body = f"c = Conv(x, w) y = {operator}(c)"
    model = network(body, f"float[n, 4, {height}, {width}]", {"w": weights(4, 3, 1, 1)})
    assert steps(in_int8(model)) < 1.01


def test_an_average_over_odd_borders_is_refused() -> None:
    operator = "AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>"
    with pytest.raises(ConversionError, match="neither SAME nor counted"):
        to_litert(network(f"y = {operator}(x)", "float[n, 3, 5, 4]"))


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("y = GlobalAveragePool(x)", "n, 3, 1, 1"),
        ("y = GlobalMaxPool(x)", "n, 3, 1, 1"),
        ("y = ReduceMean<axes = [1], keepdims = 0>(x)", "n, 9, 8"),
        ("y = ReduceMax<axes = [2], keepdims = 1>(x)", "n, 3, 1, 8"),
        ("y = ReduceMin<axes = [3], keepdims = 0>(x)", "n, 3, 9"),
        ("y = ReduceSum(x, a)", "n, 1, 1, 8"),
    ],
)
def test_reductions_are_equal(body: str, output: str) -> None:
    arrays = {"a": np.array([1, 2])} if "(x, a)" in body else None
    assert error(network(body, f"float[{output}]", arrays)) < 1e-5


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_an_integer_global_pool_differs_by_one_step_at_most(operator: str) -> None:
    model = network(f"c = Conv(x, w) y = {operator}(c)", "float[n, 4, 1, 1]", {"w": weights(4, 3, 1, 1)})
    assert steps(in_int8(model)) < 1.01


RESIZES = {
    "nearest, twice": ('<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">', 2),
    "linear": ('<mode = "linear", coordinate_transformation_mode = "half_pixel">', 3),
    "linear, corners": ('<mode = "linear", coordinate_transformation_mode = "align_corners">', 2),
}


@pytest.mark.parametrize("name", RESIZES)
def test_resizes_are_equal(name: str) -> None:
    attributes, factor = RESIZES[name]
    sizes = np.array([1, 3, 9 * factor, 8 * factor])
    model = network(f"y = Resize{attributes}(x, , , s)", f"float[n, 3, {sizes[2]}, {sizes[3]}]", {"s": sizes})
    from litertnets import in_litert, pictures
    from quantnets import run

    batch = pictures(model, 1)  # the sizes state a batch of one
    np.testing.assert_allclose(in_litert(model, batch), run(model, batch), atol=1e-5)


def test_a_cubic_resize_is_refused() -> None:
    model = network('y = Resize<mode = "cubic">(x, , , s)', "float[n, 3, 18, 16]", {"s": np.array([1, 3, 18, 16])})
    with pytest.raises(ConversionError, match="of the kind cubic"):
        to_litert(model)
