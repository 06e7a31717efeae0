"""The cast to float16: what it keeps in float32, that it says so, and what ONNX Runtime makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.lowering.cast_fp16 import LARGEST, cast_fp16
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import Ranges

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 3, 8, 8] image) => (float[n, 4] probabilities, float[n, 4] logits)
{
  padded = Pad(image, pads, lowest)
  one = Conv(padded, one_w, one_b)
  clipped = Clip(one, zero, six)
  pooled = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(clipped)
  squares = Mul(pooled, pooled)
  both = Concat<axis = 1>(pooled, squares)
  mean = GlobalAveragePool(both)
  flat = Flatten(mean)
  logits = Gemm(flat, two_w, two_b)
  probabilities = Softmax(logits)
}
"""


def arrays() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(7)
    return {
        "one_w": rng.standard_normal((6, 3, 3, 3)).astype(np.float32) / 4,
        "one_b": rng.standard_normal(6).astype(np.float32),
        "two_w": rng.standard_normal((12, 4)).astype(np.float32),
        "two_b": rng.standard_normal(4).astype(np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "lowest": np.full((), -3.4e38, np.float32),
        "zero": np.zeros((), np.float32),
        "six": np.full((), 1e6, np.float32),
    }


def net(text: str = TEXT, **replaced: NDArray[Any]) -> OnnxModel:
    proto = onnx.parser.parse_model(text)
    values = {**arrays(), **replaced}
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(values[name], name) for name in values if name in used)
    return OnnxModel.from_proto(proto)


def run(model: OnnxModel, count: int = 5) -> list[NDArray[np.float32]]:
    onnx.checker.check_model(model.proto(), full_check=True)
    batch = np.random.default_rng(1).uniform(-1, 1, (count, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, {"image": batch})
    return outputs


def kinds(model: OnnxModel) -> dict[str, str]:
    """Map each node that computes to the type of its first output."""
    graph = onnx.shape_inference.infer_shapes(model.proto()).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}
    return {node.op_type: names[types[node.output[0]]] for node in graph.node if node.op_type != "Cast"}


def plain() -> OnnxModel:
    return net(TEXT.replace("padded = Pad(image, pads, lowest)", "padded = Pad(image, pads)"))


def test_everything_but_softmax_is_in_half_and_the_faces_stay_float32() -> None:
    model = plain()
    made = cast_fp16(model)
    types = kinds(made.model)
    assert types.pop("Softmax") == "fp32"
    # The first Pad only moves float32 pixels: casting behind it or before is the same, and the input comes in float32.
    assert types.pop("Pad") == "fp32"
    assert set(types.values()) == {"fp16"}
    assert made.kept == ()
    assert not made.checked
    proto = made.model.proto()
    assert [output.name for output in proto.graph.output] == ["probabilities", "logits"]
    assert {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)} == {1}
    for ours, theirs in zip(run(made.model), run(model), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.01, rtol=0.01)
    weights = [tensor for tensor in proto.graph.initializer if len(tensor.dims)]
    assert {weight.data_type for weight in weights} == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}


def test_numbers_beyond_half_in_clip_and_pad_do_not_become_infinite() -> None:
    made = cast_fp16(net())
    assert made.kept == ()
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in made.model.proto().graph.initializer]
    assert all(np.isfinite(array).all() for array in stored)
    # The Pad in front reads the float32 image and stays there, so its number does, too.
    assert max(float(np.abs(array).max()) for array in stored if array.dtype == np.float16) == LARGEST


def test_the_same_bytes_again() -> None:
    assert cast_fp16(net()).model.to_bytes() == cast_fp16(net()).model.to_bytes()


@pytest.mark.parametrize(("factor", "reason"), [(1e6, "above 65504"), (1e-6, "below 6.1e-05")])
def test_weights_that_half_cannot_hold_stay_in_float32(factor: float, reason: str) -> None:
    model = net(one_w=arrays()["one_w"] * np.float32(factor), one_b=arrays()["one_b"] * np.float32(factor))
    made = cast_fp16(model)
    assert [layer.layer for layer in made.kept] == ["one"]
    assert reason in made.kept[0].reason
    types = kinds(made.model)
    assert types["Conv"] == "fp32"
    assert types["Gemm"] == "fp16"


def ranges(**spans: tuple[float, float]) -> Ranges:
    return Ranges("minmax", "m", "d", 1, spans)


def test_activations_that_would_overflow_keep_their_layers_in_float32() -> None:
    made = cast_fp16(plain(), ranges(pooled=(0.0, 300.0), squares=(0.0, 40_000.0), both=(0.0, 20_000.0)))
    assert made.checked
    assert {layer.layer for layer in made.kept} == {"squares", "both"}
    assert "40000" in next(layer.reason for layer in made.kept if layer.layer == "squares").replace("4e+04", "40000")
    types = kinds(made.model)
    assert types["Mul"] == "fp32"
    assert types["Conv"] == "fp16"
    for ours, theirs in zip(run(made.model), run(plain()), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.01, rtol=0.01)


def test_activations_without_a_full_bit_stay_in_float32_but_zeros_do_not() -> None:
    made = cast_fp16(plain(), ranges(logits=(-1e-6, 2e-6), one=(0.0, 0.0)))
    assert {layer.layer for layer in made.kept} == {"logits"}


def test_what_is_asked_stays_in_float32_and_is_not_reported_as_a_misfit() -> None:
    made = cast_fp16(plain(), float_layers=frozenset({"one"}))
    assert made.kept == ()
    assert kinds(made.model)["Conv"] == "fp32"


def test_a_tensor_is_cast_once_for_all_that_read_it() -> None:
    made = cast_fp16(plain(), float_layers=frozenset({"squares"}))
    casts = [node for node in made.model.proto().graph.node if node.op_type == "Cast"]
    assert len({(node.input[0], node.attribute[0].i) for node in casts}) == len(casts)


def test_graphs_that_cannot_be_cast() -> None:
    quantized = TEXT.replace("logits = Gemm", "q = QuantizeLinear(flat, six)\n  logits = Gemm")
    for model, why in (
        (cast_fp16(plain()).model, "float16"),
        (net(quantized), "quantized"),
        (net(TEXT.replace('"" : 17', '"" : 12')), "opset"),
    ):
        with pytest.raises(ConversionError, match=why) as caught:
            cast_fp16(model)
        assert caught.value.code == "fp16-graph"
