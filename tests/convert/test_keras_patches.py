from __future__ import annotations

from user_nets import net

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_to_onnx import onnx_from_keras


def test_keras_is_itself_again_after_a_trace() -> None:
    from keras.src.backend.tensorflow import nn

    keras = load_keras()
    before = nn.gelu, nn.celu, nn.conv, keras.layers.Rescaling.call, keras.layers.BatchNormalization.call
    onnx_from_keras(net(lambda layers, x: layers.Rescaling(0.5)(layers.Conv2D(4, 3, activation="gelu")(x))))
    assert before == (nn.gelu, nn.celu, nn.conv, keras.layers.Rescaling.call, keras.layers.BatchNormalization.call)
