from __future__ import annotations

from typing import Any

import numpy as np
from user_nets import net

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.engines.ort import OrtSession


def test_keras_is_itself_again_after_a_trace() -> None:
    from keras.src.backend.tensorflow import nn

    keras = load_keras()
    before = nn.gelu, nn.celu, nn.conv, keras.layers.Rescaling.call, keras.layers.BatchNormalization.call
    onnx_from_keras(net(lambda layers, x: layers.Rescaling(0.5)(layers.Conv2D(4, 3, activation="gelu")(x))))
    assert before == (nn.gelu, nn.celu, nn.conv, keras.layers.Rescaling.call, keras.layers.BatchNormalization.call)


def test_a_dense_layer_over_an_image_is_a_convolution_and_a_layer_norm_folds_into_it() -> None:
    def block(layers: Any, x: Any) -> Any:
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Conv2D(5, 3)(x))
        return layers.Dense(3)(layers.Activation("gelu")(layers.Dense(7)(x)))

    model = net(block)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0.5, 1, value.shape) for value in model.get_weights()])
    graph, _ = optimize(onnx_from_keras(model, outputs=("out",)))
    kinds = [node.op_type for node in graph.proto().graph.node]
    assert kinds.count("Conv") == 3
    assert not {"MatMul", "Shape", "Gather", "Neg"} & set(kinds)
    images = random.normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(OrtSession(graph.to_bytes()).run(images), expected, rtol=1e-4, atol=1e-4)
