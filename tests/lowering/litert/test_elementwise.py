"""Operators of single elements in LiteRT give the answers of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from litertnets import error, in_int8, network, steps, weights

SHAPE = "float[n, 3, 9, 8]"


@pytest.mark.parametrize("operator", ["Sigmoid", "Tanh", "Exp", "Abs", "Neg", "HardSwish", "Floor", "Relu", "Sqrt"])
def test_functions_of_one_element(operator: str) -> None:
    body = f"a = Abs(x) y = {operator}(a)" if operator == "Sqrt" else f"y = {operator}(x)"
    assert error(network(body, SHAPE)) < 1e-5


@pytest.mark.parametrize(
    "body",
    [
        "y = LeakyRelu<alpha = 0.2>(x)",
        "y = PRelu(x, s)",
        "y = HardSigmoid<alpha = 0.16666667>(x)",
        "y = Clip(x, low)",
        "y = Clip(x, low, high)",
        "y = Clip(x, , high)",
        "d = Exp(x) y = Reciprocal(d)",
        "y = Softmax<axis = 1>(x)",
        "y = Softmax<axis = 3>(x)",
        "y = LogSoftmax<axis = 1>(x)",
        "y = Pow(x, two)",
        "d = Exp(x) y = Pow(d, root)",
    ],
)
def test_activations(body: str) -> None:
    every = {"s": weights(3, 1, 1), "low": np.array(-0.4, np.float32), "high": np.array(0.3, np.float32)}
    every |= {"two": np.array(2, np.float32), "root": np.array([0.5], np.float32)}
    assert (
        error(network(body, SHAPE, {name: array for name, array in every.items() if name in body.split("(")[-1]}))
        < 1e-5
    )


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (8,), (1, 3, 9, 8)])
def test_a_constant_broadcasts(operator: str, shape: tuple[int, ...]) -> None:
    assert error(network(f"y = {operator}(x, c)", SHAPE, {"c": 2 + np.abs(weights(*shape))})) < 1e-5


def test_axes_in_two_orders_meet() -> None:
    body = "z = Transpose<perm = [0, 1, 3, 2]>(x) u = Relu(z) v = Transpose<perm = [0, 1, 3, 2]>(u) y = Add(v, x)"
    assert error(network(body, SHAPE)) < 1e-5


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_integer_operators_differ_by_one_step_at_most(operator: str) -> None:
    body = f"a = Conv(x, w) b = Conv(x, v) y = {operator}(a, b)"
    model = network(body, "float[n, 4, 9, 8]", {"w": weights(4, 3, 1, 1), "v": weights(4, 3, 1, 1, seed=5)})
    assert steps(in_int8(model)) < 1.01


def test_a_gate_for_each_channel_broadcasts_in_integers() -> None:
    body = "a = Conv(x, w) g = GlobalAveragePool(a) s = Sigmoid(g) y = Mul(a, s)"
    model = network(body, "float[n, 4, 9, 8]", {"w": weights(4, 3, 1, 1)})
    assert steps(in_int8(model)) < 1.5


def test_a_relu_of_integers_that_others_read_too_is_an_addition() -> None:
    body = "a = Conv(x, w) s = Add(a, a) r = Relu(s) t = Add(r, s) u = Add(s, t) y = Conv(u, v)"
    model = network(body, "float[n, 4, 9, 8]", {"w": weights(4, 3, 1, 1), "v": weights(4, 4, 1, 1)})
    model = in_int8(model, signed=False)
    assert any(node.op_type == "Clip" for node in model.proto().graph.node)
    assert steps(model) < 1.01
    assert steps(model, reference=True) < 1.01


@pytest.mark.parametrize("operator", ["Sum", "Max", "Min"])
def test_three_operands_are_taken_one_after_the_other(operator: str) -> None:
    body = f"a = Neg(x) b = {operator}(c, a, x) y = Relu(b)"
    assert error(network(body, SHAPE, {"c": weights(3, 1, 1)})) < 1e-5
    assert error(network(f"a = Neg(x) b = Abs(x) y = {operator}(a, b, x, x)", SHAPE)) < 1e-5
