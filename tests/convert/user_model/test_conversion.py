"""Everything that a user may have put into a model converts exactly, after it was saved and read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import user_nets
from user_nets import net, saved

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.prepare import prepare_model
from xxdeploy.convert.user_model.preprocessing import scaling_inside
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.engines.ort import OrtSession

Body = Callable[[Any, Any], Any]


def exported(model: Any, tmp_path: Path, name: str = "own.keras") -> OnnxModel:
    """Save, load, convert, tune, and compare: the loaded model with the saved one, ONNX with both.

    The logits are compared, to a hundred thousandth of the largest: probabilities hide what a softmax saturates.
    """
    images = user_nets.pictures(model, largest=255.0 if scaling_inside(model, model.inputs[0]) else 1.0)
    loaded = load_model_file(saved(model, tmp_path / name))
    prepared = prepare_model(loaded.model, task="features")
    reference = KerasRunner(prepared.model).run(images)
    allowed = 1e-5 * np.abs(reference).max()
    if model.input_shape[0] is None:
        np.testing.assert_allclose(reference, model(images, training=False), rtol=0, atol=allowed)
    assert np.ptp(reference, axis=0).max() > 100 * allowed  # a network that ignores its input would prove nothing
    onnx, _ = optimize(onnx_from_keras(prepared.model, outputs=("features",)))
    for optimized in (False, True):
        found = OrtSession(onnx.to_bytes(), optimize=optimized).run(images)
        np.testing.assert_allclose(found, reference, rtol=0, atol=allowed)
    return onnx


def conv(layers: Any, x: Any, filters: int = 6) -> Any:
    return layers.Conv2D(filters, 3, padding="same", activation="relu")(x)


def transfer_learning(layers: Any, x: Any) -> Any:
    keras = load_keras()
    whole = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35)
    # Behind more layers than this, random weights do not tell two pictures apart.
    backbone = keras.Model(whole.input, whole.get_layer("block_3_project_BN").output, name="mobilenetv2")
    x = keras.applications.mobilenet_v2.preprocess_input(layers.RandomFlip()(x))
    return layers.Dropout(0.2)(backbone(x, training=False))


def sequential_models(layers: Any, x: Any) -> Any:
    keras = load_keras()
    augment = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1), layers.RandomContrast(0.1)]
    front = keras.Sequential([*augment, layers.Rescaling(1 / 255.0)], name="augment")
    body = keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()], name="body")
    return body(front(x))


def adapted_statistics(layers: Any, x: Any) -> Any:
    normalize = layers.Normalization(name="adapted")
    normalize.adapt(np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)))
    return conv(layers, normalize(x))


def operations(layers: Any, x: Any) -> Any:
    ops = load_keras().ops
    x = conv(layers, x / 127.5 - 1.0, 8)
    x = ops.relu6(x) * ops.sigmoid(x) + 1
    x = ops.concatenate([x, x[..., :4]], -1) - ops.mean(x, axis=(1, 2, 3), keepdims=True)
    x = ops.max_pool(ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 2)
    x = ops.sqrt(ops.abs(ops.transpose(x, (0, 2, 1, 3))) + 1e-3)
    first, second = ops.split(ops.clip(ops.maximum(x, 0.1) / 2, 0, 3), 2, -1)
    x = ops.where(first > 0.2, first, second * 2)
    return ops.reshape(x, (-1, x.shape[1], x.shape[2] * 2, 3))


def squeeze_and_excite(layers: Any, x: Any) -> Any:
    x = layers.Activation("hard_silu")(layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(x)))
    s = layers.Conv2D(4, 1, activation="swish")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, layers.Conv2D(8, 1, activation="hard_sigmoid")(s)])


def inverted_residual(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(12, 1, use_bias=False)(x)))
    y = layers.DepthwiseConv2D(3, strides=1, padding="valid")(layers.ZeroPadding2D(((0, 2), (1, 1)))(y))
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
    return layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(4, 1, use_bias=False)(y))])


def attention(layers: Any, x: Any) -> Any:
    x = layers.Reshape((16, 48))(layers.Rescaling(1 / 255)(x))
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(x, x) + x)
    return layers.Reshape((4, 4, 48))(layers.Dense(48, "gelu")(x))


def three_deep(layers: Any, x: Any) -> Any:
    keras = load_keras()
    inner = keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization()], name="inner")
    middle = keras.Sequential([inner, layers.ReLU()], name="middle")
    return keras.Sequential([middle, layers.Conv2D(6, 3)], name="outer")(x)


def uneven_padding(layers: Any, x: Any) -> Any:
    """Values below zero meet the zeros of the padding before a pool; pads before a strided convolution."""
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(layers.Conv2D(6, 3, padding="same")(x))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(layers.MaxPooling2D(3, strides=2)(x))
    return layers.DepthwiseConv2D(3, strides=2, padding="valid")(x)


def sampled_again(layers: Any, x: Any) -> Any:
    """Averages at the border count no padding; each way has another factor; channels change in a transpose."""
    x = layers.AveragePooling2D(3, strides=2, padding="same")(layers.Cropping2D(((0, 1), (1, 0)))(conv(layers, x)))
    x = layers.UpSampling2D((2, 3), interpolation="bilinear")(x)
    return layers.Conv2DTranspose(5, 3, strides=2, padding="same")(x)


def dilated(layers: Any, x: Any) -> Any:
    x = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")(conv(layers, x))
    return layers.SeparableConv2D(6, 3, dilation_rate=2, padding="same")(x)


BODIES: dict[str, Body] = {
    "three deep": three_deep,
    "uneven padding": uneven_padding,
    "sampled again": sampled_again,
    "dilated": dilated,
    "adapted statistics": adapted_statistics,
    "sequential models": sequential_models,
    "operations": operations,
    "squeeze and excite": squeeze_and_excite,
    "attention": attention,
    "inverted residual": inverted_residual,
    "given statistics": lambda L, x: conv(L, L.Normalization(mean=[1.0, 2, 3], variance=[4.0, 5, 6])(x)),  # noqa: N803
    "caffe": lambda L, x: conv(L, load_keras().applications.resnet.preprocess_input(x)),  # noqa: N803
    "torch": lambda L, x: conv(L, load_keras().applications.densenet.preprocess_input(x)),  # noqa: N803
    "group norm": lambda L, x: L.GroupNormalization(2)(conv(L, x)),  # noqa: N803
    "instance norm": lambda L, x: conv(L, L.GroupNormalization(-1)(conv(L, x))),  # noqa: N803
    "layer norm": lambda L, x: L.LayerNormalization()(conv(L, x)),  # noqa: N803
    "batch norms": lambda L, x: L.BatchNormalization(center=False)(  # noqa: N803
        L.BatchNormalization(scale=False)(L.Conv2D(6, 3, use_bias=False)(x))),
    "resizing": lambda L, x: conv(L, L.Resizing(12, 20)(x)),  # noqa: N803
    "resizing and cutting": lambda L, x: conv(L, L.Resizing(12, 20, crop_to_aspect_ratio=True)(x)),  # noqa: N803
    "cutting": lambda L, x: conv(L, L.RandomCrop(10, 12)(L.CenterCrop(14, 12)(x))),  # noqa: N803
    "parametric relus": lambda L, x: L.PReLU()(L.PReLU(shared_axes=[1, 2])(L.Conv2D(6, 3)(x))),  # noqa: N803
    "depth multipliers": lambda L, x: L.SeparableConv2D(6, 3, depth_multiplier=2)(  # noqa: N803
        L.DepthwiseConv2D(3, depth_multiplier=3, activation="relu")(x)),
    "noise": lambda L, x: L.SpatialDropout2D(0.2)(  # noqa: N803
        L.GaussianNoise(0.1)(L.Dropout(0.5)(conv(L, x)))),
    "spectral norm": lambda L, x: L.SpectralNormalization(L.Conv2D(6, 3))(x),  # noqa: N803
    "einsum": lambda L, x: L.EinsumDense("abcd,de->abce", (None, None, 8))(conv(L, x)),  # noqa: N803
    "a layer used twice": lambda L, x: (lambda shared: shared(shared(x)))(L.Conv2D(3, 3, padding="same")),  # noqa: N803
}  # fmt: skip
ACTIVATIONS = [
    "gelu",
    "mish",
    "celu",
    "selu",
    "softplus",
    "softsign",
    "log_sigmoid",
    "hard_tanh",
    "squareplus",
    "exponential",
]


@pytest.mark.parametrize("name", BODIES)
def test_layers(name: str, tmp_path: Path) -> None:
    exported(net(BODIES[name], end="linear"), tmp_path)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, tmp_path: Path) -> None:
    exported(net(lambda layers, x: layers.Conv2D(6, 3, activation=activation)(x), end="linear"), tmp_path)


@pytest.mark.parametrize("name", ["own.keras", "own.h5"])
def test_transfer_learning(name: str, tmp_path: Path) -> None:
    onnx = exported(net(transfer_learning, (32, 32, 3), end="linear"), tmp_path, name)
    found = Counter(node.op_type for node in onnx.proto().graph.node)
    assert (found["Transpose"], found["Pad"], found["BatchNormalization"]) == (1, 0, 0)


def test_one_channel_any_format_and_a_fixed_batch(tmp_path: Path) -> None:
    keras = load_keras()
    image = keras.Input(batch_shape=(4, 12, 10, 1))
    x = conv(keras.layers, keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    onnx = exported(user_nets.shaken(model), tmp_path)
    dimensions = onnx.proto().graph.input[0].type.tensor_type.shape.dim
    assert [dimension.dim_value or dimension.dim_param for dimension in dimensions] == ["batch", 12, 10, 1]


def test_probabilities(tmp_path: Path) -> None:
    """The same with a softmax, and one that is added."""
    for end in ("softmax", "linear"):
        prepared = prepare_model(load_model_file(saved(net(conv, end=end), tmp_path / "own.keras")).model)
        images = user_nets.pictures(prepared.model, largest=1.0)
        onnx, _ = optimize(onnx_from_keras(prepared.model))
        found = OrtSession(onnx.to_bytes()).run(images)
        np.testing.assert_allclose(found, KerasRunner(prepared.model).run(images), rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("pooling", ["none", "avg", "max"])
def test_features(pooling: str, tmp_path: Path) -> None:
    keras = load_keras()
    image = keras.Input((16, 16, 3))
    x = inverted_residual(keras.layers, image)
    if pooling != "none":
        x = (keras.layers.GlobalMaxPooling2D if pooling == "max" else keras.layers.GlobalAveragePooling2D)()(x)
    exported(user_nets.shaken(keras.Model(image, x)), tmp_path)


@pytest.mark.parametrize("offset", [0, -1])
def test_rescaling_goes_into_the_first_convolution(tmp_path: Path, offset: int) -> None:
    model = net(lambda layers, x: conv(layers, layers.Rescaling(1 / 127.5, offset)(x)), end="linear")
    onnx = exported(model, tmp_path)
    found = Counter(node.op_type for node in onnx.proto().graph.node)
    assert (found["Mul"], found["Add"], found["Transpose"]) == (0, abs(offset), 1)


def test_several_outputs_have_their_own_names() -> None:
    keras = load_keras()
    image = keras.Input((8, 8, 3))
    x = conv(keras.layers, image)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    model = user_nets.shaken(keras.Model(image, [keras.layers.Dense(3, "softmax")(pooled), x]))
    images = user_nets.pictures(model, largest=1)
    onnx, _ = optimize(onnx_from_keras(model, outputs=("probabilities", "map")))
    import onnxruntime

    found = onnxruntime.InferenceSession(onnx.to_bytes(), providers=["CPUExecutionProvider"]).run(
        None, {"image": images}
    )
    for one, other in zip(found, model(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
