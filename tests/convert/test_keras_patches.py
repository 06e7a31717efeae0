from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from model_answers import conversion_error, decibels_on
from onnx import TensorProto, helper
from random_models import give_weights
from user_nets import net

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_patches import is_exact_nearest
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.engines.ort import OrtSession


def test_keras_is_itself_again_after_a_trace() -> None:
    from keras.src.backend.tensorflow import nn

    keras = load_keras()
    before = nn.gelu, nn.celu, nn.conv, keras.layers.Rescaling.call, keras.layers.BatchNormalization.call
    onnx_from_keras(net(lambda layers, x: layers.Rescaling(0.5)(layers.Conv2D(4, 3, activation="gelu")(x))))
    assert before == (nn.gelu, nn.celu, nn.conv, keras.layers.Rescaling.call, keras.layers.BatchNormalization.call)


def test_a_keras_without_an_operation_converts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras 3.5 has no celu; nothing puts one there."""
    from keras.src.backend.tensorflow import nn

    monkeypatch.delattr(nn, "celu")
    onnx_from_keras(net(lambda layers, x: layers.Conv2D(4, 3)(x)))
    assert not hasattr(nn, "celu")


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


def _resize(way: str, size: tuple[int, int]) -> Callable[[Any, Any], Any]:
    return lambda layers, x: layers.Resizing(*size, interpolation=way)(x)


GEOMETRY: dict[str, Callable[[Any, Any], Any]] = {
    **{
        f"resize by {way} to {size}": _resize(way, size)
        for way in ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5")
        for size in ((24, 7), (4, 11))
    },
    "resize by area, whole factors": lambda layers, x: layers.Resizing(6, 5, interpolation="area")(x),
    "resize with antialias": lambda layers, x: layers.Resizing(7, 5, antialias=True)(x),
    "resize by bicubic with antialias": lambda layers, x: layers.Resizing(7, 5, "bicubic", antialias=True)(x),
    "resize with pads": lambda layers, x: layers.Resizing(9, 9, pad_to_aspect_ratio=True)(x),
    "resize with a crop": lambda layers, x: layers.Resizing(9, 9, crop_to_aspect_ratio=True)(x),
    "padding before a dilated convolution": lambda layers, x: layers.Conv2D(2, 3, dilation_rate=2, padding="same")(
        layers.ZeroPadding2D(((1, 2), (0, 1)))(x)
    ),
    "transposed with output padding, valid": lambda layers, x: layers.Conv2DTranspose(2, 3, 2, output_padding=1)(x),
    "transposed with output padding, same": lambda layers, x: layers.Conv2DTranspose(
        2, 3, 3, padding="same", output_padding=(2, 1)
    )(x),
    "transposed, kernel below stride": lambda layers, x: layers.Conv2DTranspose(2, 1, 3)(x),
    "transposed, kernel below stride, same": lambda layers, x: layers.Conv2DTranspose(2, 2, 3, padding="same")(x),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_gives_the_answers_of_keras(name: str, tmp_path: Path) -> None:
    keras = load_keras()
    image = keras.Input((12, 10, 3))
    model = keras.Model(image, GEOMETRY[name](keras.layers, keras.layers.Conv2D(2, 1)(image)))
    give_weights(model, np.random.default_rng(1))
    error = conversion_error(model, tmp_path, 1)
    assert error is not None
    assert error < 1e-5


def test_onnx_resizes_to_the_nearest_pixel_as_tensorflow_wherever_it_is_trusted() -> None:
    """Other pairs of sizes are a Gather by TensorFlow's own places."""
    import tensorflow as tf

    keras = load_keras()
    image = keras.Input((8, 8, 1))
    twice = keras.Model(image, keras.layers.Resizing(16, 16, interpolation="nearest")(image))
    whole = onnx_from_keras(twice, outputs=("out",)).proto()
    (node,) = (node for node in whole.graph.node if node.op_type == "Resize")
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"])
    resize.attribute.extend(node.attribute)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 1, None, 1]), ("scales", [4]), ("y", [1, 1, None, 1]))
    ]
    graph = helper.make_model(
        helper.make_graph([resize], "g", values[:2], values[2:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pairs = [(old, new) for old in range(1, 97) for new in range(1, 97) if is_exact_nearest(old, new)]
    assert len(pairs) > 400
    for old, new in pairs:
        line = np.arange(old, dtype=np.float32).reshape(1, 1, old, 1)
        scales = np.array([1, 1, np.float32(new) / np.float32(old), 1], np.float32)
        right = tf.image.resize(line.reshape(1, old, 1, 1), (new, 1), method="nearest").numpy()
        assert session.run(None, {"x": line, "scales": scales})[0].ravel().tolist() == right.ravel().tolist(), (
            old,
            new,
        )


@pytest.mark.parametrize("form", ["Normalization", "(x - means) / stds"])
def test_int8_of_a_model_that_normalizes_each_channel_is_as_good_as_scaled_outside(form: str) -> None:
    keras = load_keras()
    means, stds = np.array([123.0, 116.0, 103.0], np.float32), np.array([58.0, 57.0, 57.5], np.float32)
    image, scaled = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    rest = keras.Sequential(
        [
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5),
        ]
    )
    inside = (
        keras.layers.Normalization(mean=means.tolist(), variance=(stds**2).tolist())(image)
        if form == "Normalization"
        else (image - means) / stds
    )
    whole, plain = keras.Model(image, rest(inside)), keras.Model(scaled, rest(scaled))
    give_weights(rest, np.random.default_rng(3))
    pixels = np.random.default_rng(4).integers(0, 256, (24, 4, 4, 3)).repeat(4, 1).repeat(4, 2).astype(np.float32)
    own, other = decibels_on(whole, pixels), decibels_on(plain, (pixels - means) / stds)
    assert own is not None
    assert other is not None
    assert own > 25
    assert own > other - 3


def test_int8_of_a_model_that_compares_two_tensors() -> None:
    keras = load_keras()
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.Conv2D(2, 1)(keras.ops.where(x < keras.ops.mean(x, axis=-1, keepdims=True), x, x * 0.5))
    model = keras.Model(image, x)
    give_weights(model, np.random.default_rng(3))
    ratio = decibels_on(model, np.random.default_rng(4).uniform(-1, 1, (24, 8, 8, 3)).astype(np.float32))
    assert ratio is not None
    assert ratio > 20
