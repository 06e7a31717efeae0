from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from quantnets import batches, images, residual, run
from satnets import (
    CASES,
    STEP,
    SX,
    Case,
    brute_conv,
    brute_sums,
    conv_arrays,
    conv_input,
    conv_model,
    integers_of,
    layer_model,
    requantized,
)

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.x86.saturation import count_saturating_pairs, emulate_avx2, integer_layers


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_equal_saturating_sums(case: Case) -> None:
    model = conv_model(case)
    emulated = emulate_avx2(model)
    expected = brute_conv(case)
    for optimize in (False, True):
        integers = integers_of(run(emulated, conv_input(case), optimize=optimize), conv_arrays(case))
        np.testing.assert_array_equal(integers, expected)
    if case.depthwise:
        assert emulated == model
    else:
        assert (expected != brute_conv(case, saturate=False)).any()  # the case does saturate


@pytest.mark.parametrize("op", ["Gemm", "Gemm transposed", "MatMul", "MatMul of rows"])
@pytest.mark.parametrize("to_float", [False, True])
def test_matrices_equal_saturating_sums(op: str, to_float: bool) -> None:
    rng = np.random.default_rng(5)
    inputs, channels = 33, 12
    arrays = conv_arrays(Case(inputs, channels))
    weights = arrays["w"].reshape(channels, inputs)
    axis = 0 if "transposed" in op else 1
    arrays["w"] = weights if axis == 0 else np.ascontiguousarray(weights.T)
    bias = arrays["b"].astype(np.int64) if "Gemm" in op else np.zeros(channels, np.int64)
    if "MatMul" in op:
        node = helper.make_node("MatMul", ["x_dq", "w_dq"], ["c"])
        del arrays["b"]
    else:
        node = helper.make_node("Gemm", ["x_dq", "w_dq", "b_dq"], ["c"], transB=1 - axis)
    shape = (3, 4, inputs) if "rows" in op else (12, inputs)
    model = layer_model([node], "c", arrays, list(shape), axis, to_float=to_float)
    raw = rng.integers(0, 256, shape)
    output = run(emulate_avx2(model), ((raw - 37) * SX).astype(np.float32)).reshape(12, channels)
    sums = brute_sums(raw.reshape(12, inputs), weights, saturate=True) - 37 * weights.sum(axis=1, dtype=np.int64) + bias
    if to_float:
        np.testing.assert_array_equal(output, sums.astype(np.float32) * (SX * arrays["w_scale"]))
    else:
        np.testing.assert_array_equal(integers_of(output, arrays), requantized(sums, arrays, (-1,)))


def test_a_clip_that_the_quantizer_does_not_make_free_keeps_the_layer_in_float() -> None:
    case = Case(64, 64, after="Clip")
    arrays = conv_arrays(case) | {"top": np.array(100 * STEP, np.float32)}
    nodes = [node for node in conv_model(case).proto().graph.node if node.op_type in ("Conv", "Clip")]
    model = layer_model(nodes, "a", arrays, ["n", 64, "h", "w"], axis=0)
    assert integer_layers(Graph(model)) == ()
    assert emulate_avx2(model) == model


def test_unsigned_weights_are_exact() -> None:
    case = Case(8, 16)
    arrays = conv_arrays(case)
    arrays |= {"w": (arrays["w"].astype(np.int16) + 128).astype(np.uint8), "w_zero": np.full(16, 128, np.uint8)}
    nodes = [node for node in conv_model(case).proto().graph.node if node.op_type == "Conv"]
    model = layer_model(nodes, "c", arrays, ["n", 8, "h", "w"], axis=0)
    assert emulate_avx2(model) == model


def test_a_network_saturates_until_it_is_narrow() -> None:
    network = residual()
    ranges = calibrate(network, batches(images()), data_digest="images")
    plain = quantize(network, ranges, scheme("static-w8c-a8"))
    narrow = quantize(network, ranges, replace(scheme("static-w8c-a8"), narrow_layers=frozenset({"all"})))
    batch = images(32, seed=2)
    assert emulate_avx2(narrow) == narrow
    assert (run(emulate_avx2(plain), batch) != run(plain, batch)).any()
    assert np.abs(run(narrow, batch) - run(network, batch)).max() < 0.05


def test_layers_are_called_as_in_the_float_graph() -> None:
    network = residual()
    ranges = calibrate(network, batches(images()), data_digest="images")
    layers = {layer.name: layer for layer in integer_layers(Graph(quantize(network, ranges, scheme("static-w8c-a8"))))}
    assert list(layers) == ["stem", "wide", "deep", "thin", "grouped", "logits"]
    assert not layers["deep"].adds_in_16_bits
    assert count_saturating_pairs(layers["deep"]) == 0


def test_only_the_narrow_layers_are_narrow() -> None:
    network = residual()
    ranges = calibrate(network, batches(images()), data_digest="images")
    asked = replace(scheme("static-w8c-a8"), narrow_layers=frozenset({"grouped"}))
    risky = {
        layer.name: count_saturating_pairs(layer) for layer in integer_layers(Graph(quantize(network, ranges, asked)))
    }
    assert risky["grouped"] == 0
    assert risky["stem"] > 0
