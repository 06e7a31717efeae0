"""Functions that LiteRT lacks, and choices, give the answers of ONNX Runtime."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from litertnets import error, in_litert, network, pictures, weights
from quantnets import run

from xxdeploy.errors import ConversionError
from xxdeploy.lowering.litert.write import to_litert

SHAPE = "float[n, 3, 9, 8]"


@pytest.mark.parametrize(
    "body",
    [
        "y = Softplus(x)",
        "y = Softsign(x)",
        "y = Selu(x)",
        "y = Elu<alpha = 0.7>(x)",
        "y = Celu<alpha = 0.7>(x)",
        "y = ThresholdedRelu<alpha = 0.2>(x)",
        "y = Erf(x)",
    ],
)
@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_functions(body: str, factor: float) -> None:
    model = network(f"z = Mul(x, k) {body.replace('(x)', '(z)')}", SHAPE, {"k": np.array(factor, np.float32)})
    assert error(model) < 2e-5


def test_small_arguments_of_erf_keep_their_digits() -> None:
    model = network("z = Mul(x, k) y = Erf(z)", SHAPE, {"k": np.array(1e-4, np.float32)})
    assert error(model) < 1e-5


def test_a_batch_normalization() -> None:
    arrays = {"g": weights(3), "b": weights(3, seed=1), "m": weights(3, seed=2), "v": np.abs(weights(3, seed=4)) + 0.1}
    assert error(network("y = BatchNormalization(x, g, b, m, v)", SHAPE, arrays)) < 1e-5


@pytest.mark.parametrize("operator", ["Greater", "Less", "GreaterOrEqual", "LessOrEqual"])
def test_a_choice(operator: str) -> None:
    body = f"c = {operator}(x, zero) n2 = Not(c) f = Cast<to = 1>(n2) h = Mul(x, half) s = Where(c, x, h) y = Add(s, f)"
    arrays = {"zero": np.array(0, np.float32), "half": np.array(0.5, np.float32)}
    assert error(network(body, SHAPE, arrays)) < 1e-5


def test_integers_stay_integers() -> None:
    body = "z = Mul(x, k) i = Cast<to = 6>(z) j = Div(i, three) y = Cast<to = 1>(j)"
    arrays: dict[str, Any] = {"k": np.array(20, np.float32), "three": np.array(3, np.int32)}
    assert error(network(body, SHAPE, arrays)) == 0


@pytest.mark.parametrize(
    ("body", "output"), [("ArgMax<axis = 1, keepdims = 0>", "n, 9, 8"), ("ArgMin<axis = 2>", "n, 3, 1, 8")]
)
def test_the_place_of_an_extreme(body: str, output: str) -> None:
    assert error(network(f"i = {body}(x) y = Cast<to = 1>(i)", f"float[{output}]")) == 0


@pytest.mark.parametrize("equation", ["bchw,bkhw->bck", "bchw,bchk->bcwk"])
def test_an_einsum_of_two(equation: str) -> None:
    sizes = dict(zip("bchwk", ("n", 3, 9, 8, 3 if "kh" in equation else 8), strict=True))
    output = ", ".join(str(sizes[letter]) for letter in equation.split("->")[1])
    assert error(network(f'z = Relu(x) y = Einsum<equation = "{equation}">(x, z)', f"float[{output}]")) < 1e-5


def test_an_einsum_with_a_diagonal_is_refused() -> None:
    model = network('y = Einsum<equation = "bcww,bcwk->bck">(x, x)', "float[n, 3, 8]", image="n, 8, 8, 3")
    with pytest.raises(ConversionError):
        to_litert(model)


def test_a_tile_and_an_expansion() -> None:
    model = network(
        "p = GlobalAveragePool(x) e = Expand(p, s) y = Tile(e, t)",
        "float[n, 6, 4, 5]",
        {"s": np.array([1, 3, 4, 5]), "t": np.array([1, 2, 1, 1])},
    )
    batch = pictures(model)
    np.testing.assert_allclose(in_litert(model, batch), run(model, batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("y = LRN<size = 3, alpha = 0.5, beta = 0.6, bias = 1.5>(x)", "n, 3, 9, 8"),
        ("y = CumSum(x, one)", "n, 3, 9, 8"),
        ("y = CumSum<exclusive = 1, reverse = 1>(x, three)", "n, 3, 9, 8"),
        ("y, i = TopK<axis = 1>(x, k)", "n, 2, 9, 8"),
        ("v, i = TopK(x, k) y = Cast<to = 1>(i)", "n, 3, 9, 2"),
        ("a = ArgMax<axis = 1, keepdims = 0>(x) b = Sub(a, one64) y = OneHot<axis = 1>(b, k, ends)", "n, 2, 9, 8"),
        ("r = Log(x) m = IsNaN(r) y = Where(m, x, half)", "n, 3, 9, 8"),
        ("z = Mul(x, half) t = Mul(z, hundred) u = Abs(t) c = Cast<to = 2>(u) y = Cast<to = 1>(c)", "n, 3, 9, 8"),
        ("a, b = Split<axis = 0>(both, sizes) s = ConstantOfShape(a) y = Add(x, s)", "n, 3, 9, 8"),
    ],
)
def test_choices_and_sums(body: str, output: str) -> None:
    every: dict[str, Any] = {"one": np.array(1, np.int32), "three": np.array(3, np.int32), "k": np.array([2])}
    every |= {"one64": np.array(1), "ends": np.array([0.5, 2], np.float32), "half": np.array(0.5, np.float32)}
    every |= {"hundred": np.array(100, np.float32), "both": np.array([8, 7]), "sizes": np.array([1, 1])}
    arrays = {name: array for name, array in every.items() if re.search(rf"\b{name}\b", body)}
    assert error(network(body, f"float[{output}]", arrays)) < 1e-6


def test_integers_of_eight_bits_that_are_computed_with_are_refused() -> None:
    body = "a = Abs(x) c = Cast<to = 2>(a) d = Add(c, c) y = Cast<to = 1>(d)"
    with pytest.raises(ConversionError, match="uint8"):
        to_litert(network(body, SHAPE))
