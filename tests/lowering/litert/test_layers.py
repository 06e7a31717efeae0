"""Convolutions and dense layers in LiteRT give the answers of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from litertnets import error, in_int8, network, steps, weights

from xxdeploy.errors import ConversionError
from xxdeploy.lowering.litert.write import to_litert
from xxdeploy.onnxmodel.model import OnnxModel

CONVOLUTIONS = {
    "valid": ("", (4, 3, 3, 3), (7, 6)),
    "same": ("<pads = [1, 1, 1, 1]>", (4, 3, 3, 3), (9, 8)),
    "stride 2, tensorflow's same": ("<pads = [1, 0, 1, 1], strides = [2, 2]>", (4, 3, 3, 3), (5, 4)),
    "stride 2, other pads": ("<pads = [1, 1, 1, 1], strides = [2, 2]>", (4, 3, 3, 3), (5, 4)),
    "dilated": ("<pads = [2, 2, 2, 2], dilations = [2, 2]>", (4, 3, 3, 3), (9, 8)),
    "grouped": ("<group = 3>", (6, 1, 3, 3), (7, 6)),
    "one channel per group of two": ("<group = 3>", (3, 1, 3, 3), (7, 6)),
    "large depthwise": ("<group = 3, pads = [3, 3, 3, 3]>", (3, 1, 7, 7), (9, 8)),
    "large depthwise, strided": ("<group = 3, pads = [2, 3, 3, 3], strides = [2, 2]>", (6, 1, 7, 7), (4, 4)),
    "large depthwise, dilated": ("<group = 3, pads = [6, 5, 6, 5], dilations = [2, 2]>", (3, 1, 7, 6), (9, 8)),
    "one row larger than a kernel of XNNPACK": ("<group = 3, pads = [0, 13, 0, 13]>", (3, 1, 1, 27), (9, 8)),
    "rectangular": ("<pads = [0, 2, 0, 2]>", (4, 3, 1, 5), (9, 8)),
}


def convolution(name: str, activation: str = "y = Identity(c)") -> OnnxModel:
    attributes, shape, (height, width) = CONVOLUTIONS[name]
    body = f"c = Conv{attributes}(x, w, b) {activation}"
    arrays = {"w": weights(*shape), "b": weights(shape[0], seed=1)}
    return network(body, f"float[n, {shape[0]}, {height}, {width}]", arrays)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_equal_in_float(name: str) -> None:
    assert error(convolution(name)) < 1e-5


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("signed", [True, False])
def test_integer_convolutions_differ_by_one_step_at_most(name: str, signed: bool) -> None:
    assert steps(in_int8(convolution(name, "y = Relu(c)"), signed=signed)) < 1.01


def test_the_reference_kernels_agree_too() -> None:
    assert steps(in_int8(convolution("same", "y = Relu(c)")), reference=True) < 1.01


@pytest.mark.parametrize("activation", ["y = Relu(c)", "y = Clip(c, low, high)", "y = Clip(c, low, one)"])
def test_an_activation_is_applied_once(activation: str) -> None:
    bounds = {"low": np.float32(0), "high": np.float32(6), "one": np.float32(1)}
    used = {name: np.asarray(value) for name, value in bounds.items() if name in activation}
    arrays = {"w": 3 * weights(4, 3, 3, 3), **used}
    assert error(network(f"c = Conv(x, w) {activation}", "float[n, 4, 7, 6]", arrays)) < 1e-5


TRANSPOSED = {
    "valid": ("<strides = [2, 2]>", (19, 17)),
    "same": ("<strides = [2, 2], pads = [0, 0, 1, 1]>", (18, 16)),
    "cut otherwise": ("<strides = [2, 2], pads = [1, 1, 1, 1]>", (17, 15)),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions_are_equal(name: str) -> None:
    attributes, (height, width) = TRANSPOSED[name]
    arrays = {"w": weights(3, 4, 3, 3), "b": weights(4)}
    model = network(f"y = ConvTranspose{attributes}(x, w, b)", f"float[n, 4, {height}, {width}]", arrays)
    assert error(model) < 1e-5


def test_a_transposed_convolution_with_groups_is_refused() -> None:
    model = network("y = ConvTranspose<group = 3>(x, w)", "float[n, 3, 11, 10]", {"w": weights(3, 1, 3, 3)})
    with pytest.raises(ConversionError, match="has groups") as caught:
        to_litert(model)
    assert caught.value.code == "litert-operator"


DENSE = "p = GlobalAveragePool(x) f = Flatten(p) y = Gemm(f, w, b)"


def test_a_dense_layer_is_equal_in_float() -> None:
    assert error(network(DENSE, "float[n, 5]", {"w": weights(3, 5), "b": weights(5)})) < 1e-5


def test_logits_stay_float_and_are_close() -> None:
    model = in_int8(network(DENSE, "float[n, 5]", {"w": weights(3, 5), "b": weights(5)}))
    assert error(model) < 0.02


def test_a_product_of_two_activations() -> None:
    body = "r = Reshape(x, s) t = Transpose<perm = [0, 2, 1]>(r) y = MatMul(r, t)"
    assert error(network(body, "float[n, 3, 3]", {"s": np.array([-1, 3, 72])})) < 1e-5
