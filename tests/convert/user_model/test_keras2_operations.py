from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import user_nets
from user_nets import old_functional, old_input, old_layer, old_operation

from xxdeploy.convert.user_model.keras2_operations import upgrade_operation
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.errors import UsageError

RANDOM = np.random.default_rng(0)


IMAGES = RANDOM.uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)


def test_caffe_preprocessing_and_arithmetic_of_keras_2(tmp_path: Path) -> None:
    flip = {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]}
    config = old_functional(
        "model",
        [
            old_input("x", 4, 4, 3),
            old_layer("bgr", "SlicingOpLambda", [["x", 0, 0, flip]], function="__operators__.getitem"),
            old_operation("mean", "nn.bias_add", "bgr", bias=[-103.939, -116.779, -123.68], data_format="NHWC"),
            old_layer("both", "TFOpLambda", [[["mean", 0, 0, {"axis": -1}], ["x", 0, 0, {}]]], function="concat"),
            old_operation("means", "math.reduce_mean", "both", axis=[1, 2], keepdims=True),
            old_operation("centred", "math.subtract", "both", y=["means", 0, 0]),
            old_layer("one", "TFOpLambda", [["_CONSTANT_VALUE", -1, 1.0, {"y": ["centred", 0, 0], "name": None}]],
                      function="math.subtract"),
            old_operation("clip", "clip_by_value", "one", clip_value_min=-50, clip_value_max=60),
        ],
    )  # fmt: skip
    model = load_model_file(user_nets.old_h5(tmp_path / "a.h5", config, {})).model
    both = np.concatenate([IMAGES[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32), IMAGES], -1)
    np.testing.assert_allclose(
        model(IMAGES), np.clip(1 - (both - both.mean((1, 2), keepdims=True)), -50, 60), atol=1e-4
    )


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("image.decode_jpeg", {}), ("math.add", {}), ("nn.softmax", {"axis": 1, "extra": 3})],
)
def test_operations_without_a_rule_are_named(function: str, arguments: dict[str, Any]) -> None:
    item = old_layer("op", "TFOpLambda", [["x", 0, 0, {**arguments, "name": None}]], function=function)
    with pytest.raises(UsageError, match=function) as caught:
        upgrade_operation(item)
    assert caught.value.code == "old-operation"


def test_softmax_of_keras_2_goes_over_the_last_axis() -> None:
    item = old_layer("op", "TFOpLambda", [["x", 0, 0, {"axis": None}]], function="nn.softmax")
    assert upgrade_operation(item)["config"] == {"name": "op", "axis": -1}
