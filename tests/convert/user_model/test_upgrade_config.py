"""Files as Keras 2 wrote them, computed here with numpy: nested models, operations, options that are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import user_nets
from user_nets import old_functional, old_input, old_layer, old_operation, reads

from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.upgrade_config import upgrade_config

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(0, 0.5, (1, 1, 3, 4)).astype(np.float32)
DEPTHWISE = RANDOM.normal(0, 0.5, (1, 1, 4, 1)).astype(np.float32)
GAMMA, BETA, MEAN, VARIANCE = (RANDOM.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4))
DENSE = RANDOM.normal(0, 1, (4, 2)).astype(np.float32)
IMAGES = RANDOM.uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
NO = {"kernel_regularizer": None, "bias_constraint": None}


def transfer_learning() -> dict[str, Any]:
    """``preprocess_input`` of tf, a backbone inside, a new head: what the guide to transfer learning makes."""
    glorot = {"class_name": "GlorotUniform", "config": {"seed": None}}
    inner = old_functional(
        "backbone",
        [
            old_input("input_1", 4, 4, 3),
            old_layer("conv1/conv", "Conv2D", reads("input_1"), filters=4, kernel_size=[1, 1], strides=[1, 1],
                      padding="valid", dilation_rate=[1, 1], groups=1, activation="linear", use_bias=False,
                      kernel_initializer=glorot, **NO),
            old_layer("dw", "DepthwiseConv2D", reads("conv1/conv"), kernel_size=[1, 1], groups=1, use_bias=False,
                      depth_multiplier=1, depthwise_initializer=glorot),
            old_layer("conv1/bn", "BatchNormalization", reads("dw"), axis=[3], epsilon=0.001, fused=True),
            old_layer("gate", "Activation", reads("conv1/bn"), activation="hard_sigmoid"),
            old_layer("same", "Activation", reads("gate"), activation="linear"),
        ],
        reads("tf.math.subtract", training=False),
    )  # fmt: skip
    return old_functional(
        "model",
        [
            old_input("input_2", 4, 4, 3),
            old_layer("drop", "SpatialDropout2D", reads("input_2"), rate=0.2, noise_shape=None),
            old_layer("flip", "RandomFlip", reads("drop"), rng_type="stateful", mode="horizontal", seed=None),
            old_operation("tf.math.truediv", "math.truediv", "flip", y=127.5),
            old_operation("tf.math.subtract", "math.subtract", "tf.math.truediv", y=1.0),
            inner,
            # A model inside was first called when it was made: its use here is call number 1.
            old_layer("pool", "GlobalAveragePooling2D", reads("backbone", at=1), keepdims=False),
            old_layer("dense", "Dense", reads("pool"), units=2, activation="softmax", use_bias=False),
        ],
    )


def expected() -> np.ndarray:
    x = (IMAGES / 127.5 - 1) @ KERNEL[0, 0] * DEPTHWISE[0, 0, :, 0]
    x = (x - MEAN) / np.sqrt(VARIANCE + 0.001) * GAMMA + BETA
    x = np.clip(0.2 * x + 0.5, 0, 1).mean((1, 2)) @ DENSE
    x = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(x / x.sum(1, keepdims=True))


def test_transfer_learning_from_h5(tmp_path: Path) -> None:
    weights = {
        "backbone": {
            "conv1/conv/kernel:0": KERNEL,
            "dw/depthwise_kernel:0": DEPTHWISE,
            "conv1/bn/gamma:0": GAMMA,
            "conv1/bn/beta:0": BETA,
            "conv1/bn/moving_mean:0": MEAN,
            "conv1/bn/moving_variance:0": VARIANCE,
        },
        "dense": {"dense/kernel:0": DENSE},
    }
    loaded = load_model_file(user_nets.old_h5(tmp_path / "a.h5", transfer_learning(), weights))
    np.testing.assert_allclose(loaded.model(IMAGES, training=False), expected(), atol=1e-6)
    assert [layer.name for layer in loaded.model.get_layer("backbone").layers][1] == "conv1_conv"


def test_transfer_learning_from_an_archive_of_keras_2(tmp_path: Path) -> None:
    weights = {
        "layers/functional/layers/conv2d": [KERNEL],
        "layers/functional/layers/depthwise_conv2d": [DEPTHWISE],
        "layers/functional/layers/batch_normalization": [GAMMA, BETA, MEAN, VARIANCE],
        "layers/dense": [DENSE],
    }
    loaded = load_model_file(user_nets.old_keras(tmp_path / "a.keras", transfer_learning(), weights))
    np.testing.assert_allclose(loaded.model(IMAGES, training=False), expected(), atol=1e-6)


def test_a_random_crop_of_keras_2_resizes_in_inference(tmp_path: Path) -> None:
    config = old_functional(
        "model", [old_input("x", 4, 4, 3), old_layer("c", "RandomCrop", reads("x"), height=2, width=2, seed=None)]
    )
    model = load_model_file(user_nets.old_h5(tmp_path / "a.h5", config, {})).model
    expected = (IMAGES[:, ::2] + IMAGES[:, 1::2])[:, :, ::2] / 4 + (IMAGES[:, ::2] + IMAGES[:, 1::2])[:, :, 1::2] / 4
    np.testing.assert_allclose(model(IMAGES, training=False), expected, atol=1e-4)


def test_h5_files_of_keras_3_tell_operations_from_layers_of_their_name() -> None:
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [], "dtype": "float32", "keras_history": ["x", 0, 0]},
    }
    node = {"args": [tensor, 1], "kwargs": {}}
    operation = {"class_name": "Add", "config": {"name": "add"}, "name": "add", "inbound_nodes": [node]}
    layer = {**operation, "config": {"name": "add", "trainable": True, "dtype": "float32"}}
    assert upgrade_config(operation)["module"] == "keras.src.ops.numpy"
    assert upgrade_config(layer)["module"] == "keras.layers"


def test_new_names_stay_apart() -> None:
    layers = [old_input("a/b", 4, 4, 3), old_layer("a_b", "Activation", reads("a/b"), activation="relu")]
    inner = upgrade_config(old_functional("m", layers))["config"]
    assert [layer["name"] for layer in inner["layers"]] == ["a_b_", "a_b"]
    assert inner["input_layers"] == ["a_b_", 0, 0]
    assert inner["layers"][1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"][0] == "a_b_"
