"""Each family of ours as ONNX, small: the outputs of Keras, one Transpose, and one Conv for each convolution."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from xxdeploy.convert.catalog.build import build_model
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.passes.lrn_as_sums import whole_lrn
from xxdeploy.passes.optimize import optimize

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
    graph, _ = optimize(onnx_from_keras(model, outputs=("out",)))

    batch = random.uniform(-2, 2, (3, *model.input_shape[1:])).astype(np.float32)
    expected = np.asarray(model(batch, training=False))
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        how = onnxruntime.SessionOptions()
        how.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(graph.to_bytes(), how, providers=["CPUExecutionProvider"])
        got = session.run(None, {"image": batch})[0]
        assert np.abs(got - expected).max() <= 1e-5 * (1 if top else 10 * np.abs(expected).max())

    kinds = [node.op_type for node in whole_lrn(graph).proto().graph.node]
    layers = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Transpose") == 1
    assert kinds.count("Conv") == layers.count("Conv2D")
    assert kinds.count("LRN") == layers.count("LocalResponseNormalization")
    assert kinds.count("Pad") == kinds.count("Mul") == 0
