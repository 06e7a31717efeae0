"""Each family as ONNX, small: the outputs of Keras, and one Transpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.catalog.calibrate_batchnorm import settle_batch_norms, textures
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.lrn_as_sums import whole_lrn
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.tensorrt.linter import lint_tensorrt
from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.verify.outputs import cosines

NAMES = [
    "alexnet-lrn",
    "zfnet-lrn",
    "vgg11-lrn",
    "vgg16-c",
    "googlenet",
    "inceptionv4",
    "inceptionresnetv1",
    "resnet18",
    "resnet50v1.5",
    "resnext50",
    "densenet-bc-40-12",
    "densenet161",
]
WITHOUT_CLASSIFIER = ["zfnet-lrn", "googlenet", "resnext50", "densenet-bc-40-12"]


def same_as_keras(model: Any, batch: NDArray[np.float32], *, top: bool = True) -> OnnxModel:
    """Convert and optimize ``model``, and compare its probabilities, or features."""
    graph, _ = optimize(onnx_from_keras(model, outputs=("out",)))
    compare_with_keras(graph, model, batch, top=top)
    return graph


def compare_with_keras(graph: OnnxModel, model: Any, batch: NDArray[np.float32], *, top: bool) -> None:
    expected = np.asarray(model(batch, training=False))
    tolerance = 1e-5 if top else 1e-4 * np.abs(expected).max()
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        how = onnxruntime.SessionOptions()
        how.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(graph.to_bytes(), how, providers=["CPUExecutionProvider"])
        got = session.run(None, {"image": batch})[0]
        assert np.abs(got - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "top"), [(name, True) for name in NAMES] + [(name, False) for name in WITHOUT_CLASSIFIER]
)
def test_onnx_gives_what_keras_gives(name: str, top: bool) -> None:
    spec = find(name)
    options = BuildOptions(
        input_size=spec.min_size, classes=5 if top else None, include_top=top, pooling=None if top else "avg", seed=1
    )
    model = build_model(spec, weights="none", options=options)
    random = np.random.default_rng(0)
    for layer in model.layers:  # random weights make an identity of batch norm; trained ones do not
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([random.uniform(0.6, 1.4, value.shape) for value in layer.get_weights()])
    batch = random.uniform(-2, 2, (3, *model.input_shape[1:])).astype(np.float32)
    graph = same_as_keras(model, batch, top=top)

    kinds = [node.op_type for node in whole_lrn(graph).proto().graph.node]
    layers = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Transpose") == 1
    assert kinds.count("Conv") == layers.count("Conv2D")
    assert kinds.count("LRN") == layers.count("LocalResponseNormalization")
    assert kinds.count("Pad") == kinds.count("Mul") == 0


def scaling_inside(name: str) -> Any:
    """A small network of a family of ``keras.applications`` that takes pixels 0..255: all its layers, fewer blocks."""
    keras = load_keras()
    from keras.src.applications import convnext, efficientnet, efficientnet_v2

    given: dict[str, Any] = {"weights": None, "include_top": False, "pooling": "avg", "input_shape": (64, 64, 3)}
    if name.startswith("mobilenetv3"):
        return keras.applications.MobileNetV3Small(**given, minimalistic=name.endswith("minimalistic"))
    if name == "efficientnet":
        return efficientnet.EfficientNet(0.5, 0.3, 64, **given)
    if name == "efficientnetv2":
        return efficientnet_v2.EfficientNetV2(0.5, 0.3, 64, name="efficientnetv2-b0", **given)
    return convnext.ConvNeXt([1, 1, 2, 1], [16, 32, 48, 64], **given)


@dataclass(frozen=True)
class Family:
    """A small network with random weights, and its float graph."""

    name: str
    model: Any
    graph: OnnxModel


@pytest.fixture(
    scope="module",
    params=["mobilenetv3small", "mobilenetv3small-minimalistic", "efficientnet", "efficientnetv2", "convnext"],
)
def family(request: pytest.FixtureRequest) -> Family:
    load_keras().utils.set_random_seed(1)
    model = scaling_inside(request.param)
    settle_batch_norms(model, pictures(8, seed=0))
    return Family(request.param, model, optimize(onnx_from_keras(model, outputs=("out",)))[0])


def pictures(count: int, seed: int) -> NDArray[np.float32]:
    return textures(count, 64, 64, 3, seed=seed).astype(np.float32)


def test_networks_that_scale_pixels_give_what_keras_gives(family: Family) -> None:
    batch = pictures(3, seed=1)
    compare_with_keras(family.graph, family.model, batch, top=False)
    features = np.asarray(family.model(batch, training=False))
    assert np.ptp(features, axis=0).max() > 0.05 * np.abs(features).max()  # the image matters
    kinds = [node.op_type for node in family.graph.proto().graph.node]
    assert kinds.count("Transpose") == 1 if family.name != "convnext" else kinds.count("Transpose") >= 1


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_networks_that_scale_pixels_in_int8(family: Family, target: str) -> None:
    seen, unseen = pictures(16, seed=2), pictures(16, seed=3)
    ranges = calibrate(family.graph, lambda: iter([seen]), method="percentile-99.99", data_digest="d")
    if target == "cpu":
        integer = quantize(family.graph, ranges, scheme("static-w8c-a8"))
    else:
        integer = quantize_for_tensorrt(family.graph, ranges, scheme("static-w8c-a8s"))
        assert lint_tensorrt(integer) == ()
        kinds = Counter(node.op_type for node in integer.proto().graph.node)
        assert kinds["DequantizeLinear"] >= 2 * (kinds["Conv"] + kinds["Gemm"])
    right = OrtSession(family.graph.to_bytes()).run(unseen)
    for optimized in (True, False):
        answers = OrtSession(integer.to_bytes(), optimize=optimized).run(unseen)
        assert cosines(right, answers).min() > 0.98
