from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.keras_loader import load_keras, load_tensorflow
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.engines.ort import OrtSession

Layers = Any


def shaken(model: Any) -> Any:
    """Give every variable values that matter: batch norms fresh from the factory are nearly the identity."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "seed" in variable.path:
            continue
        low = 0.5 if "variance" in variable.path or "gamma" in variable.path else -0.3
        variable.assign(random.uniform(low, low + 1 if low > 0 else 0.3, variable.shape).astype(np.float32))
    return model


def converted(model: Any) -> OnnxModel:
    """Convert, tune, and compare with Keras at two batch sizes, ONNX Runtime's optimizations off and on."""
    outputs = ("probabilities",)
    onnx, _ = optimize(onnx_from_keras(model, outputs=outputs))
    random = np.random.default_rng(1)
    for count in (1, 3):
        batch = random.uniform(-1, 1, (count, *model.input_shape[1:])).astype(np.float32)
        expected = np.asarray(model(batch, training=False))
        for optimized in (False, True):
            found = OrtSession(onnx.to_bytes(), optimize=optimized).run(batch)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1, float(np.abs(expected).max())))
    return onnx


BODIES: dict[str, Callable[[Layers, Any], Any]] = {
    "batch norms": lambda L, x: L.BatchNormalization(axis=1)(  # noqa: N803
        L.BatchNormalization(scale=False)(L.BatchNormalization(center=False)(L.Conv2D(4, 3)(x)))
    ),
    "grouped": lambda L, x: L.Conv2D(8, 3, groups=4, strides=2)(L.Conv2D(8, 1)(x)),  # noqa: N803
    "depthwise same": lambda L, x: L.DepthwiseConv2D(3, strides=2, padding="same")(x),  # noqa: N803
    "separable": lambda L, x: L.SeparableConv2D(6, 3)(L.ReLU(6.0)(x)),  # noqa: N803
    "transposed": lambda L, x: L.Conv2DTranspose(4, 3, strides=2)(x),  # noqa: N803
    "upsampling": lambda L, x: L.UpSampling2D(2)(L.ZeroPadding2D(((0, 1), (2, 0)))(x)),  # noqa: N803
    "cropping": lambda L, x: L.Cropping2D(((1, 0), (0, 2)))(L.LeakyReLU()(x)),  # noqa: N803
    "pools": lambda L, x: L.Concatenate()([  # noqa: N803
        L.MaxPooling2D(3, 1, padding="same")(x), L.AveragePooling2D(3, 1, padding="same")(x)]),
    "padded maximum": lambda L, x: L.MaxPooling2D(3, 2)(L.ZeroPadding2D(1)(L.Conv2D(4, 1)(x))),  # noqa: N803
    "inside": lambda L, x: L.Rescaling(2.0, -1)(L.RandomFlip()(L.Dropout(0.5)(x))),  # noqa: N803
    "squeeze-excite": lambda L, x: L.Multiply()([  # noqa: N803
        x, L.Reshape((1, 1, 3))(L.Dense(3, "sigmoid")(L.GlobalAveragePooling2D()(x)))]),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("head", ["flatten", "pool"])
def test_layers_convert_exactly(name: str, head: str) -> None:
    keras = load_keras()
    inputs = keras.Input((10, 12, 3))
    body = BODIES[name](keras.layers, inputs)
    body = keras.layers.Conv2D(5, 1, activation="relu")(body)
    flat = keras.layers.Flatten() if head == "flatten" else keras.layers.GlobalAveragePooling2D()
    model = shaken(keras.Model(inputs, keras.layers.Dense(7, "softmax")(flat(body))))
    onnx = converted(model)
    transposes = sum(node.op_type == "Transpose" for node in onnx.proto().graph.node)
    assert transposes <= (1 if name not in ("squeeze-excite", "transposed", "upsampling") else 3)


def test_names_batch_axis_and_layers() -> None:
    keras = load_keras()
    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3, name="stem")], name="inner")
    inputs = keras.Input((4, 4, 3))
    flat = keras.layers.Flatten()(inner(inputs))
    proto = converted(shaken(keras.Model(inputs, keras.layers.Dense(2, name="head")(flat)))).proto()
    assert proto.graph.input[0].name == "image"
    assert proto.graph.output[0].name == "probabilities"
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [item.domain for item in proto.opset_import] == [""]
    names = [node.name for node in proto.graph.node]
    assert any(name.startswith("inner/stem/") for name in names)
    assert any(name.startswith("head/") for name in names)


def test_two_outputs_need_two_names() -> None:
    keras = load_keras()
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(2)(x), keras.layers.Dense(3)(x)])
    with pytest.raises(ConversionError, match="2 outputs"):
        onnx_from_keras(model)
    assert [value.name for value in onnx_from_keras(model, outputs=("a", "b")).proto().graph.output] == ["a", "b"]


def test_a_layer_without_onnx_form_is_named_and_keras_is_itself_again() -> None:
    keras, tf = load_keras(), load_tensorflow()
    call = keras.layers.BatchNormalization.call

    class Sorted(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return tf.raw_ops.Bucketize(input=x, boundaries=[0.0, 1.0])

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, Sorted()(keras.layers.BatchNormalization()(inputs)))
    with pytest.raises(ConversionError) as caught:
        onnx_from_keras(model)
    assert caught.value.code == "unsupported-operator"
    assert keras.layers.BatchNormalization.call is call


@pytest.mark.parametrize(
    ("name", "size", "left"),
    [
        ("MobileNet", 64, {"Pad": 0, "Mul": 0, "BatchNormalization": 0}),
        ("MobileNetV2", 64, {"Pad": 0, "Mul": 0, "BatchNormalization": 0}),
        ("NASNetMobile", 48, {"Mul": 0, "BatchNormalization": 0, "Slice": 0, "Pad": 4}),
        ("DenseNet121", 64, {"Pad": 0, "Mul": 0}),
    ],
)
def test_networks_convert_exactly_with_one_transpose(name: str, size: int, left: dict[str, int]) -> None:
    keras = load_keras()
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    random = np.random.default_rng(0)
    for variable in model.variables:  # statistics and offsets that are not those of a fresh network
        if "moving_mean" in variable.path or "beta" in variable.path:
            variable.assign(random.normal(0, 0.1, variable.shape).astype(np.float32))
    operators = [node.op_type for node in converted(model).proto().graph.node]
    assert operators.count("Transpose") == 1
    assert {operator: operators.count(operator) for operator in left} == left
