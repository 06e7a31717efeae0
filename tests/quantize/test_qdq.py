from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantnets import batches, images, ops, optimized_ops, parse, run

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.results import Ranges

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
U8S8 = scheme("static-w8c-a8")


def ranges(**pairs: tuple[float, float]) -> Ranges:
    return Ranges("minmax", "model", "data", 1, pairs)


def test_pairs_are_counted(model: OnnxModel, calibrated: Ranges) -> None:
    count = ops(quantize(model, calibrated, U8S8))
    assert count["QuantizeLinear"] == 13  # one for each tensor of test_layout, but for what Pad makes of integers
    assert count["DequantizeLinear"] == 13 + 6 + 5  # and one for each weight and each bias
    # The Sum shields the AveragePool.
    assert {op: n for op, n in count.items() if "Linear" not in op} == {**ops(model), "Sum": 1}


def test_onnx_runtime_finds_integer_kernels(model: OnnxModel, calibrated: Ranges, tmp_path: Path) -> None:
    count = optimized_ops(quantize(model, calibrated, U8S8), tmp_path)
    assert count["QLinearConv"] == 5
    for op in ("QLinearAdd", "QLinearConcat", "AveragePool", "QLinearGlobalAveragePool", "QGemm", "Softmax"):
        assert count[op] == 1, op
    for op in ("Conv", "FusedConv", "Relu", "Clip", "Gemm", "Add", "Concat"):
        assert count[op] == 0, op
    assert count["QLinearAveragePool"] == 0  # it takes four to ten times as long as the float one with its shield
    assert count["QuantizeLinear"] == 2  # the image, and behind the float AveragePool


@pytest.mark.parametrize("name", ["static-w8c-a8", "static-w7c-a8", "static-w8c-a8i", "static-w8c-a8s"])
def test_every_scheme_keeps_the_classes(model: OnnxModel, calibrated: Ranges, name: str) -> None:
    batch = images(64, seed=2)
    quantized = quantize(model, calibrated, scheme(name))
    reference, plain, optimized = run(model, batch), run(quantized, batch, optimize=False), run(quantized, batch)
    assert len(set(reference.argmax(axis=1))) > 3
    assert (reference.argmax(axis=1) == optimized.argmax(axis=1)).mean() > 0.95
    assert np.abs(plain - optimized).max() < 0.02


def test_weights_lie_in_int8_and_sizes_follow(model: OnnxModel, calibrated: Ranges) -> None:
    proto = quantize(model, calibrated, U8S8).proto()
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name in ("stem_w", "wide_w", "deep_w", "thin_w", "grouped_w", "head_w"):
        assert name not in stored
        assert stored[f"{name}_quantized"].data_type == 3  # int8
        channels = stored[f"{name}_quantized"].dims[0]
        assert list(stored[f"{name}_scale"].dims) == list(stored[f"{name}_zero_point"].dims) == [channels]
    assert stored["stem_b_quantized"].data_type == 6  # int32
    assert not any(name.startswith("thin_b") for name in stored)


def test_inputs_outputs_and_header_stay(model: OnnxModel, calibrated: Ranges) -> None:
    before, after = model.proto(), quantize(model, calibrated, U8S8).proto()
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert (after.ir_version, after.opset_import) == (before.ir_version, before.opset_import)


def test_the_same_question_gives_the_same_bytes(model: OnnxModel, calibrated: Ranges) -> None:
    assert quantize(model, calibrated, U8S8) == quantize(OnnxModel(bytes(model.to_bytes())), calibrated, U8S8)


def test_float_layers_stay_float(model: OnnxModel, calibrated: Ranges, tmp_path: Path) -> None:
    mixed = quantize(model, calibrated, replace(U8S8, float_layers=frozenset({"deep"})))
    stored = {tensor.name for tensor in mixed.proto().graph.initializer}
    assert "deep_w" in stored
    assert "deep_w_quantized" not in stored
    count = optimized_ops(mixed, tmp_path)
    assert (count["QLinearConv"], count["Conv"]) == (4, 1)  # without a shield onnxruntime makes it 5 and 0


def test_rounding_is_written_and_scales_stay(model: OnnxModel, calibrated: Ranges) -> None:
    plain = quantize(model, calibrated, U8S8)
    before = plain.split()[1]
    rng = np.random.default_rng(0)
    rounding = {
        layer: np.clip(
            before[f"{weight}_quantized"] + rng.integers(-1, 2, before[f"{weight}_quantized"].shape), -127, 127
        ).astype(np.int8)
        for layer, weight in {"deep": "deep_w", "logits": "head_w", "thin": "thin_w"}.items()
    }
    rounded = quantize(model, calibrated, U8S8, rounding=rounding)
    after = rounded.split()[1]
    assert after.keys() == before.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"deep_w_quantized", "head_w_quantized", "thin_w_quantized"}
    for layer, weight in {"deep": "deep_w", "logits": "head_w", "thin": "thin_w"}.items():
        np.testing.assert_array_equal(after[f"{weight}_quantized"], rounding[layer])
        assert after[f"{weight}_quantized"].dtype == np.int8
    assert rounded.proto().graph.node == plain.proto().graph.node
    assert quantize(model, calibrated, U8S8, rounding={}) == plain


def test_rounding_of_weights_that_two_layers_share() -> None:
    text = HEAD + "g (float[n, 2, 8, 8] x) => (float[n, 2, 8, 8] y) { a = Conv(x, w)  y = Conv(a, w) }"
    shared = parse(text, {"w": np.full((2, 2, 1, 1), 0.5, np.float32)})
    other = np.full((2, 2, 1, 1), 126, np.int8)
    arrays = quantize(shared, ranges(x=(-1, 1), a=(-1, 1), y=(-1, 1)), U8S8, rounding={"y": other}).split()[1]
    assert (arrays["w_quantized"] == 127).all()
    assert (arrays["w_2_quantized"] == 126).all()


def test_a_quantized_output_keeps_its_name(tmp_path: Path) -> None:
    features = parse(
        HEAD + "g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y) { a = Conv(x, w)  y = Relu(a) }",
        {"w": np.eye(4, dtype=np.float32)[:, :, None, None]},
    )
    quantized = quantize(features, ranges(x=(-1, 1), y=(0, 1)), U8S8)
    assert set(optimized_ops(quantized, tmp_path)) == {"QuantizeLinear", "Transpose", "QLinearConv", "DequantizeLinear"}
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 4, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(quantized, batch), np.maximum(batch, 0), atol=0.02)


def test_the_bias_scale_is_exact_where_onnx_runtime_would_change_weights(tmp_path: Path) -> None:
    """A tiny channel with a large bias: the bias stays right, with and without optimization."""
    weights = np.array([[1.0], [1e-12]], np.float32).reshape(2, 1, 1, 1)
    bias = np.array([0.25, 0.75], np.float32)
    text = HEAD + "g (float[n, 1, 4, 4] x) => (float[n, 2, 4, 4] y) { y = Conv(x, w, b) }"
    quantized = quantize(parse(text, {"w": weights, "b": bias}), ranges(x=(0, 1), y=(0, 1.25)), U8S8)
    batch = np.full((1, 1, 4, 4), 0.5, np.float32)
    for optimize in (False, True):
        out = run(quantized, batch, optimize=optimize)
        np.testing.assert_allclose(out[0, :, 0, 0], [0.75, 0.75], atol=0.005)


def test_dead_channels_and_silent_tensors() -> None:
    weights = np.zeros((3, 1, 1, 1), np.float32)
    text = HEAD + "g (float[n, 1, 4, 4] x) => (float[n, 3, 4, 4] y) { y = Conv(x, w, b) }"
    network = parse(text, {"w": weights, "b": np.array([0.0, 1.0, -0.5], np.float32)})
    quantized = quantize(network, ranges(x=(0, 0), y=(-0.5, 1)), U8S8)
    for optimize in (False, True):
        out = run(quantized, np.zeros((1, 1, 4, 4), np.float32), optimize=optimize)
        np.testing.assert_allclose(out[0, :, 0, 0], [0.0, 1.0, -0.5], atol=0.005)


@pytest.mark.parametrize("number", [0.17, -0.17, 0.0, 3.0])
def test_single_numbers_are_exact(number: float) -> None:
    text = HEAD + "g (float[n, 1, 4, 4] x) => (float[n, 1, 4, 4] y) { a = Conv(x, w)  y = Mul(a, c) }"
    network = parse(text, {"w": np.ones((1, 1, 1, 1), np.float32), "c": np.full(1, number, np.float32)})
    span = max(abs(number), 0.01)
    quantized = quantize(network, ranges(x=(-1, 1), a=(-1, 1), y=(-span, span)), U8S8)
    batch = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(run(quantized, batch), batch * number, atol=0.02 * span + 0.004)


def test_weights_that_two_layers_share(tmp_path: Path) -> None:
    text = HEAD + "g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y) { a = Conv(x, w, b)  y = Conv(a, w, b) }"
    shared = parse(text, {"w": np.eye(4, dtype=np.float32)[:, :, None, None], "b": np.full(4, 0.5, np.float32)})
    quantized = quantize(shared, ranges(x=(-1, 1), a=(-0.5, 1.5), y=(0, 2)), U8S8)
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 4, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(quantized, batch), batch + 1, atol=0.03)
    assert optimized_ops(quantized, tmp_path)["QLinearConv"] == 2


@pytest.mark.parametrize("op", ["Gemm(x, w, b)", "Gemm<transB = 1>(x, w, b)", "MatMul(x, w)"])
def test_matrix_products_are_rounded_per_column(op: str) -> None:
    rng = np.random.default_rng(6)
    weights = (rng.standard_normal((8, 8)) * np.logspace(-3, 0, 8)).astype(np.float32)  # columns of very different size
    stored = weights.T.copy() if "transB" in op else weights
    network = parse(
        HEAD + f"g (float[n, 8] x) => (float[n, 8] y) {{ y = {op} }}", {"w": stored, "b": np.zeros(8, np.float32)}
    )
    batch = rng.uniform(-1, 1, (64, 8)).astype(np.float32)
    error = np.abs(run(quantize(network, ranges(x=(-1, 1)), U8S8), batch) - batch @ weights)
    assert (error.max(axis=0) < 0.03 * np.abs(weights).max(axis=0)).all()


def test_refusals(model: OnnxModel, calibrated: Ranges) -> None:
    with pytest.raises(UsageError) as usage:
        quantize(quantize(model, calibrated, U8S8), calibrated, U8S8)
    assert usage.value.code == "already-quantized"
    with pytest.raises(ConversionError) as missing:
        quantize(model, ranges(image=(-1, 1)), U8S8)
    assert missing.value.code == "missing-range"
    assert "stem6" in missing.value.message
    old = model.proto()
    old.opset_import[0].version = 11
    with pytest.raises(ConversionError) as opset:
        quantize(OnnxModel.from_proto(old), calibrated, U8S8)
    assert opset.value.code == "opset-too-old"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights_are_named(value: float) -> None:
    broken = np.ones((1, 1, 1, 1), np.float32) * np.float32(value)
    network = parse(
        HEAD + "g (float[n, 1, 4, 4] x) => (float[n, 1, 4, 4] y) { y = Conv(x, kernel) }", {"kernel": broken}
    )
    with pytest.raises(ConversionError, match="kernel") as caught:
        quantize(network, ranges(x=(0, 1), y=(0, 1)), U8S8)
    assert caught.value.code == "non-finite-weights"


@pytest.mark.parametrize(
    ("behind", "shielded"),
    [("y = Conv(p, w)", True), ("r = Relu(p)  y = Conv(r, w)", True), ("y = Add(p, p)", False)],
)
def test_an_average_pool_is_run_in_float(tmp_path: Path, behind: str, shielded: bool) -> None:
    text = "g (float[n, 4, 8, 8] x) => (float[n, 4, 6, 6] y) { b = Conv(x, v)"
    text += f"  p = AveragePool<kernel_shape = [3, 3]>(b)  {behind} }}"
    weights = np.eye(4, dtype=np.float32)[:, :, None, None]
    network = parse(HEAD + text, {"w": weights, "v": -weights})
    batch = np.random.default_rng(0).uniform(-1, 1, (8, 4, 8, 8)).astype(np.float32)
    quantized = quantize(network, calibrate(network, batches(batch), data_digest="d"), U8S8)
    count = optimized_ops(quantized, tmp_path)
    assert (count["AveragePool"], count["QLinearAveragePool"]) == (1, 0)
    assert ops(quantized)["Sum"] == shielded  # a copy only where there is something to stop
    np.testing.assert_allclose(run(quantized, batch), run(network, batch), atol=0.03)


@pytest.mark.parametrize("name", ["static-w8c-a8", "static-w8c-a8i"])
def test_a_softmax_over_channels_is_run_in_float(tmp_path: Path, name: str) -> None:
    """ONNX Runtime's integer Softmax turns a probability above the calibrated range into one near zero."""
    body = "b = Conv(x, w)  p = Softmax<axis = 1>(b)  y = Conv(p, w)"
    text = f"g (float[n, 4, 8, 8] x) => (float[n, 4, 8, 8] y) {{ {body} }}"
    network = parse(HEAD + text, {"w": np.eye(4, dtype=np.float32)[:, :, None, None]})
    rng = np.random.default_rng(0)
    seen, unseen = (rng.uniform(-size, size, (8, 4, 8, 8)).astype(np.float32) for size in (0.2, 0.4))
    quantized = quantize(network, calibrate(network, batches(seen), data_digest="d"), scheme(name))
    count = optimized_ops(quantized, tmp_path)
    assert (count["Softmax"], count["QLinearSoftmax"]) == (1, 0)
    np.testing.assert_allclose(run(quantized, unseen), run(quantized, unseen, optimize=False), atol=0.005)


CELL = """g (float[n, 3, 9, 9] x) => (float[n, 6, 4, 4] y) {
    h = Conv(x, w, b)  r = Relu(h)  d = Conv<group = 16, pads = [1, 1, 1, 1], strides = [2, 2]>(r, v)
    p = Pad(h, pads, value)  m = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(p)
    e = Conv(m, u)
    k = Conv<kernel_shape = [2, 2]>(d, z)  y = Add(e, k) }"""


@pytest.mark.parametrize("name", ["static-w8c-a8", "static-w8c-a8i"])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_relu_and_pad_of_what_others_read_too_move_integers(tmp_path: Path, name: str, shift: float) -> None:
    """As at the start of NASNet's reduction cells: one tensor is read as it is, through a Relu, and with a border."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((16, 3, 1, 1)), "b": np.full(16, shift), "v": rng.standard_normal((16, 1, 3, 3)) / 3,
        "u": rng.standard_normal((6, 16, 1, 1)) / 4, "z": rng.standard_normal((6, 16, 2, 2)) / 8,
        "value": np.full((), np.finfo(np.float32).tiny),
    }  # fmt: skip
    floats: dict[str, Any] = {key: array.astype(np.float32) for key, array in arrays.items()}
    network = parse(HEAD + CELL, {**floats, "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1])})
    batch = rng.uniform(-1, 1, (8, 3, 9, 9)).astype(np.float32)
    quantized = quantize(network, calibrate(network, batches(batch), data_digest="d"), scheme(name))
    count = optimized_ops(quantized, tmp_path)
    if name == "static-w8c-a8":
        assert count["QuantizeLinear"] == count["DequantizeLinear"] == 1  # the image, and the output
        assert (count["Clip"], count["Relu"], count["Pad"]) == (1, 0, 1)
    outputs = run(quantized, batch)
    np.testing.assert_array_equal(outputs, run(quantized, batch, optimize=False))
    wanted = run(network, batch)
    np.testing.assert_allclose(outputs, wanted, atol=0.03 * np.abs(wanted).max())
