"""Each rule of the linter, broken on purpose in a graph that keeps all of them, and the layer that it names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper
from quantnets import batches, images, residual

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.tensorrt.linter import check_tensorrt_layout, lint_tensorrt
from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt


@pytest.fixture(scope="module")
def sound() -> OnnxModel:
    proto = residual().proto()
    for node in proto.graph.node:
        node.name = f"keras_{node.output[0]}/{node.op_type}"
    model = OnnxModel.from_proto(proto)
    ranges = calibrate(model, batches(images()), data_digest="d")
    return quantize_for_tensorrt(model, ranges, scheme("static-w8c-a8s"))


def put(proto: ModelProto, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    """Replace an initializer, or add one."""
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    proto.graph.initializer.append(numpy_helper.from_array(value, name))


def node(proto: ModelProto, output: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in proto.graph.node if node.output[0] == output)
    return found


def zero_point(proto: ModelProto) -> None:
    put(proto, "deep6_zero_point", np.array(3, np.int8))


def unsigned(proto: ModelProto) -> None:
    put(proto, "deep6_zero_point", np.array(0, np.uint8))


def no_zero_point(proto: ModelProto) -> None:
    del node(proto, "deep6_quantized").input[2]


def negative_scale(proto: ModelProto) -> None:
    put(proto, "deep6_scale", np.array(-1, np.float32))


def one_weight_scale(proto: ModelProto) -> None:
    put(proto, "thin_weight_scale", np.array(0.1, np.float32))
    put(proto, "thin_weight_zero_point", np.array(0, np.int8))


def other_axis(proto: ModelProto) -> None:
    weights = node(proto, "thin_weight_dequantized")
    del weights.attribute[:]
    weights.attribute.append(helper.make_attribute("axis", 1))
    put(proto, "thin_weight_scale", np.full(16, 0.1, np.float32))
    put(proto, "thin_weight_zero_point", np.zeros(16, np.int8))


def integer_bias(proto: ModelProto) -> None:
    put(proto, "b_q", np.zeros(16, np.int32))
    put(proto, "b_s", np.full(16, 0.1, np.float32))
    index = list(proto.graph.node).index(node(proto, "deep"))
    proto.graph.node.insert(index, helper.make_node("DequantizeLinear", ["b_q", "b_s"], ["b_d"], axis=0))
    node(proto, "deep").input[2] = "b_d"


def pair_before_activation(proto: ModelProto) -> None:
    index = list(proto.graph.node).index(node(proto, "deep6"))
    parameters = ["deep6_scale", "deep6_zero_point"]
    proto.graph.node.insert(index, helper.make_node("DequantizeLinear", ["q", *parameters], ["d"]))
    proto.graph.node.insert(index, helper.make_node("QuantizeLinear", ["deep", *parameters], ["q"]))
    node(proto, "deep6").input[0] = "d"


def float_data(proto: ModelProto) -> None:
    node(proto, "thin").input[0] = "deep6"


def float_weights(proto: ModelProto) -> None:
    put(proto, "thin_float", np.ones((8, 16, 1, 1), np.float32))
    node(proto, "thin").input[1] = "thin_float"


BREAKS: dict[Callable[[ModelProto], None], tuple[str, str]] = {
    zero_point: ("zero-point", "keras_thin"),
    unsigned: ("unsigned", "keras_thin"),
    no_zero_point: ("unsigned", "keras_thin"),
    negative_scale: ("scale", "keras_thin"),
    one_weight_scale: ("weights-per-tensor", "keras_thin"),
    other_axis: ("weights-axis", "keras_thin"),
    integer_bias: ("quantized-bias", "keras_deep"),
    pair_before_activation: ("before-activation", "keras_deep"),
    float_data: ("half-quantized", "keras_thin"),
    float_weights: ("half-quantized", "keras_thin"),
}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda change: change.__name__)
def test_each_rule_finds_its_layer_and_nothing_else(sound: OnnxModel, broken: Callable[[ModelProto], None]) -> None:
    assert lint_tensorrt(sound) == ()
    proto = sound.proto()
    broken(proto)
    findings = lint_tensorrt(OnnxModel.from_proto(proto))
    assert {(finding.rule, finding.layer) for finding in findings} == {BREAKS[broken]}
    with pytest.raises(ConversionError, match=BREAKS[broken][1]) as caught:
        check_tensorrt_layout(OnnxModel.from_proto(proto))
    assert caught.value.code == "tensorrt-layout"


def test_a_float_graph_has_nothing_to_find() -> None:
    check_tensorrt_layout(residual())


def test_the_cpus_layout_is_refused_with_its_zero_points() -> None:
    model = residual()
    made = quantize(model, calibrate(model, batches(images()), data_digest="d"), scheme("static-w8c-a8"))
    assert {"zero-point", "unsigned", "quantized-bias"} <= {finding.rule for finding in lint_tensorrt(made)}


def test_integer_operators_are_named() -> None:
    proto = residual().proto()
    node(proto, "wide").op_type = "ConvInteger"
    assert [(finding.rule, finding.layer) for finding in lint_tensorrt(OnnxModel.from_proto(proto))] == [
        ("integer-operator", "wide")
    ]
