"""Names of functions, and the arguments that their modules call differently."""

from __future__ import annotations

import pytest

from xxdeploy.convert.user_model.lambdas.functions import FUNCTIONS, Name, by_plain_name, call, canonical
from xxdeploy.convert.user_model.lambdas.marshal_code import UnknownCodeError
from xxdeploy.convert.user_model.lambdas.tree import INPUT, Node

X = Node(INPUT, (), {"index": 0})


@pytest.mark.parametrize(
    ("dotted", "name"),
    [
        ("K.mean", "K.mean"),
        ("keras.backend.mean", "K.mean"),
        ("tf.keras.backend.mean", "K.mean"),
        ("tensorflow.keras.activations.relu", "K.relu"),
        ("tf.nn.relu6", "tf.relu6"),
        ("tf.math.abs", "tf.abs"),
        ("tf.image.resize", "tf.image.resize"),
        ("keras.ops.abs", "ops.abs"),
        ("ops.nn.relu", "ops.relu"),
        ("keras.src.applications.imagenet_utils.preprocess_input", "imagenet_utils.preprocess_input"),
        ("os.system", "os.system"),
    ],
)
def test_names_of_modules(dotted: str, name: str) -> None:
    assert canonical(dotted) == name
    assert (name in FUNCTIONS) == (name != "os.system")


def test_other_names_of_arguments() -> None:
    for options in ({"x": X, "axis": 1}, {"input_tensor": X, "axis": 1}, {"input_tensor": X, "reduction_indices": 1}):
        assert call(Name("tf.reduce_mean"), (), options) == Node("mean", (X,), {"axis": 1, "keepdims": False})
    assert call(Name("tf.transpose"), (X,), {"perm": (0, 2, 1)}) == Node("transpose", (X,), {"axes": [0, 2, 1]})
    clipped = Node("clip", (X,), {"x_min": 0, "x_max": 6})
    assert call(Name("tf.clip_by_value"), (X,), {"clip_value_min": 0, "clip_value_max": 6}) == clipped


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tf.reduce_mean", (X, 0)),
        ("K.mean", (X,)),
        ("tf.reshape", (X, (3, 4))),
        ("tf.transpose", (X, (1, 0))),
        ("tf.nn.depth_to_space", (X, 2, "NCHW")),
        ("tf.image.resize", (X, (4, 4), "lanczos3")),
        ("tf.image.resize", (X, (4.5, 4))),
        ("tf.cast", (X, Name("tf.int32"))),
        ("tf.pad", (X, ((1, 1), (0, 0)))),
        ("K.relu", (X, 0.0, None, 1.0)),
        ("tf.nn.relu6", (X, 1, 2, 3, 4)),
        ("tf.nn.relu6", ("text",)),
        ("K.concatenate", ((X, 3),)),
        ("imagenet_utils.preprocess_input", (X, None, "other")),
        ("eval", ("1",)),
    ],
)
def test_what_is_unknown_or_mixes_images(name: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(UnknownCodeError):
        call(Name(name), arguments, {})


def test_functions_by_their_name_only() -> None:
    assert by_plain_name("relu6", None, X) == Node("relu6", (X,))
    assert by_plain_name("softmax", "keras.src.activations", X) == Node("softmax", (X,), {"axis": -1})
    for name in ("l2_normalize", "system", "resize", "mean"):
        with pytest.raises(UnknownCodeError):
            by_plain_name(name, None, X)
    with pytest.raises(UnknownCodeError, match="several functions"):
        by_plain_name("sqrt", None, X)  # that of K takes the root of a negative number as 0
