"""INT8 for TensorRT: where pairs stand, what they hold, and that the accuracy methods work on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from quantnets import batches, images, ops, parse, reconstructed, run

from xxdeploy.errors import UsageError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.tensorrt.linter import lint_tensorrt
from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt
from xxdeploy.results import Ranges

A8S = scheme("static-w8c-a8s")


@pytest.fixture(scope="module")
def ranges(model: OnnxModel) -> Ranges:
    return calibrate(model, batches(images()), data_digest="d")


@pytest.fixture(scope="module")
def graph(model: OnnxModel, ranges: Ranges) -> Graph:
    return Graph(quantize_for_tensorrt(model, ranges, A8S))


def quantized(graph: Graph) -> set[str]:
    return {node.input[0] for node in graph.nodes if node.op_type == "QuantizeLinear"}


def test_pairs_stand_in_front_of_layers_and_of_the_residual_and_nowhere_else(graph: Graph) -> None:
    # down: read by a convolution, and the residual of the Add; thin: what the Add becomes part of.
    assert quantized(graph) == {"nchw", "down", "wide6", "deep6", "sum", "flat"}
    add = graph.producers()["sum"]
    assert list(add.input) == ["down_dequantized", "thin"]
    assert list(graph.producers()["both"].input) == ["sum", "grouped"]
    assert list(graph.producers()["wide6"].input) == ["wide"]


def test_everything_is_symmetric_int8_with_float_bias(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = graph.constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (graph.constants[node.input[1]] > 0).all()
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            assert graph.constants[node.input[2]].dtype == np.float32
    weights = graph.producers()[graph.producers()["deep"].input[1]]
    assert graph.constants[weights.input[1]].shape == (16,)
    assert graph.constants[weights.input[0]].dtype == np.int8
    assert np.abs(graph.constants[weights.input[0]]).max() == 127


def test_the_scale_is_the_largest_magnitude_over_127(model: OnnxModel, ranges: Ranges, graph: Graph) -> None:
    low, high = ranges.ranges["sum"]
    assert float(graph.constants["sum_scale"]) == pytest.approx(max(-low, high) / 127, rel=1e-6)


def test_the_linter_finds_nothing_in_it(model: OnnxModel, ranges: Ranges) -> None:
    assert lint_tensorrt(quantize_for_tensorrt(model, ranges, A8S)) == ()


def test_it_computes_what_the_float_network_computes(model: OnnxModel, ranges: Ranges) -> None:
    made, batch = quantize_for_tensorrt(model, ranges, A8S), images(24, seed=5)
    expected = run(model, batch)
    for optimize in (True, False):
        outputs = run(made, batch, optimize=optimize)
        assert (outputs.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
        assert np.abs(outputs - expected).max() < 0.12


def test_float_layers_have_no_pairs(model: OnnxModel, ranges: Ranges) -> None:
    made = Graph(quantize_for_tensorrt(model, ranges, replace(A8S, float_layers=frozenset({"deep", "logits"}))))
    assert quantized(made) == {"nchw", "down", "deep6", "sum"}
    assert made.producers()["deep"].input[1] == "deep_w"


def test_the_same_bytes_again(model: OnnxModel, ranges: Ranges) -> None:
    assert quantize_for_tensorrt(model, ranges, A8S).to_bytes() == quantize_for_tensorrt(model, ranges, A8S).to_bytes()


@pytest.mark.parametrize("name", ["static-w8c-a8", "static-w8c-a8i"])
def test_asymmetric_schemes_are_refused(model: OnnxModel, ranges: Ranges, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        quantize_for_tensorrt(model, ranges, scheme(name))
    assert caught.value.code == "tensorrt-scheme"


def test_where_two_convolutions_meet_the_shortcut_is_quantized() -> None:
    rng = np.random.default_rng(2)
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    block (float[n, 8, 6, 6] x) => (float[n, 8, 6, 6] y)
    {
      short = Conv(x, short_w)
      wide = Conv(x, wide_w)
      wide6 = Relu(wide)
      thin = Conv(wide6, thin_w)
      sum = Add(thin, short)
      last = Relu(sum)
      y = Conv(last, last_w)
    }
    """
    shapes = {"short_w": (8, 8, 1, 1), "wide_w": (8, 8, 1, 1), "thin_w": (8, 8, 1, 1), "last_w": (8, 8, 1, 1)}
    model = parse(text, {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
    batch = rng.standard_normal((8, 8, 6, 6)).astype(np.float32)
    made = Graph(quantize_for_tensorrt(model, calibrate(model, batches(batch), data_digest="d"), A8S))
    assert quantized(made) == {"x", "short", "wide6", "last"}
    assert list(made.producers()["sum"].input) == ["thin", "short_dequantized"]
    assert list(made.producers()["last"].input) == ["sum"]


def test_an_activation_between_convolution_and_add_leaves_the_add_in_float(model: OnnxModel) -> None:
    proto = model.proto()
    for node in proto.graph.node:
        if node.output[0] == "sum":
            node.input[:] = ["down", "stilled"]
    index = next(i for i, node in enumerate(proto.graph.node) if node.output[0] == "sum")
    proto.graph.node.insert(index, onnx.helper.make_node("Relu", ["thin"], ["stilled"]))
    changed = OnnxModel.from_proto(proto)
    made = Graph(quantize_for_tensorrt(changed, calibrate(changed, batches(images()), data_digest="d"), A8S))
    assert list(made.producers()["sum"].input) == ["down", "stilled"]


def test_bias_correction_brings_the_means_back(model: OnnxModel, ranges: Ranges) -> None:
    batch = images(32, seed=9)
    coarse = Ranges("cut", ranges.model_digest, "d", 1, {k: (a / 3, b / 3) for k, (a, b) in ranges.ranges.items()})
    tuned = reconstructed(model, coarse, A8S, batches(batch), write=quantize_for_tensorrt)

    def logits(network: OnnxModel) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        proto = network.proto()
        del proto.graph.output[:]
        proto.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
        means: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = run(OnnxModel.from_proto(proto), batch).mean(axis=0)
        return means

    expected = logits(model)
    plain = np.abs(logits(quantize_for_tensorrt(model, coarse, A8S)) - expected).mean()
    corrected = np.abs(logits(quantize_for_tensorrt(tuned.model, coarse, A8S)) - expected).mean()
    assert corrected < 0.3 * plain


def test_adaptive_rounding_lands_in_this_layout_too(model: OnnxModel, ranges: Ranges) -> None:
    tuned = reconstructed(model, ranges, A8S, batches(images()), rounding=True, write=quantize_for_tensorrt)
    made = quantize_for_tensorrt(tuned.model, ranges, A8S, rounding=tuned.rounding)
    graph = Graph(made)
    for output, values in tuned.rounding.items():
        weights = graph.producers()[graph.producers()[output].input[1]]
        np.testing.assert_array_equal(graph.constants[weights.input[0]], values)
    assert tuned.rounding
    assert lint_tensorrt(made) == ()
    assert ops(made)["QuantizeLinear"] == 6


def test_the_cpus_layout_is_another(model: OnnxModel, ranges: Ranges) -> None:
    assert {finding.rule for finding in lint_tensorrt(quantize(model, ranges, A8S))} >= {"quantized-bias"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("mobilenet", 0.94), ("mobilenetv2", 0.95)])
def test_real_networks_keep_their_classes(shared_data: Path, name: str, least: float) -> None:
    """On half of the training images that calibration has not seen; docs/explanation/gpu.md has the figures of all."""
    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.datasets import open_images
    from xxdeploy.models.catalog import find
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.runtime.image.preprocess import Preprocess

    model, _ = optimize(onnx_from_keras(build_model(find(name))))
    chosen = open_images(shared_data / "imagenet-train").sample(192, seed=1)
    batch = np.concatenate(list(chosen.batches(Preprocess(224, 224), 32)))
    seen, unseen = batch[:96], batch[96:]
    reconstruction = calibrate(model, batches(seen, 8), method="percentile-99.99", data_digest="d")
    tuned = reconstructed(model, reconstruction, A8S, batches(seen, 8), write=quantize_for_tensorrt)
    made = quantize_for_tensorrt(tuned.model, reconstruction, A8S)
    assert lint_tensorrt(made) == ()
    agreement = (run(made, unseen).argmax(axis=1) == run(model, unseen).argmax(axis=1)).mean()
    assert agreement >= least
