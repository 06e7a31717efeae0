"""Pools, reductions and resizing in LiteRT give the answers of ONNX Runtime."""

from __future__ import annotations

import itertools

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


RULES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def test_a_resize_takes_the_elements_that_onnx_takes_or_is_refused() -> None:
    """A scale of 1.5 makes 13 of 9 lines: LiteRT would divide 13 by 9 where ONNX divides by 1.5."""
    from litertnets import in_litert, pictures
    from quantnets import run

    kinds = [f'<mode = "nearest", coordinate_transformation_mode = "{rule}", nearest_mode = "{how}">'
             for rule in RULES for how in ROUNDINGS]  # fmt: skip
    kinds += [f'<mode = "linear", coordinate_transformation_mode = "{rule}">' for rule in RULES]
    written = 0
    for kind, scale in itertools.product(kinds, (2.0, 1.5, 0.5)):
        sides = f"{int(9 * scale)}, {int(8 * scale)}"
        scales = np.array([1, 1, scale, scale], np.float32)
        model = network(f"y = Resize{kind}(x, , s)", f"float[n, 3, {sides}]", {"s": scales})
        batch = pictures(model, 1)
        try:
            found = in_litert(model, batch)
        except ConversionError:
            continue
        np.testing.assert_allclose(found, run(model, batch), atol=1e-5, err_msg=f"{kind} {scale}")
        written += 1
    assert written >= 20


def test_a_pool_whose_last_window_lies_in_the_border_is_refused() -> None:
    attributes = "kernel_shape = [2, 2], strides = [3, 2], ceil_mode = 1"
    model = network(f"y = MaxPool<{attributes}>(x)", "float[n, 3, 4, 4]", {})
    with pytest.raises(ConversionError, match="last window lies in the border"):
        to_litert(model)
    attributes = "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1, count_include_pad = 1"
    model = network(f"y = AveragePool<{attributes}>(x)", "float[n, 3, 5, 4]", {})
    with pytest.raises(ConversionError, match="counts its borders"):
        to_litert(model)
