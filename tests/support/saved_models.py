"""Small SavedModel folders: genuine ones, and genuine ones that were changed to do harm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

SIZE = 12
"""Pixels a side of the pictures that the models take."""


def write_module(folder: Path, *, batch: int | None = None, size: int | None = SIZE, dtype: str = "float32") -> Path:
    """Write a ``tf.Module``: a convolution, a mean and a softmax over four classes, with the signatures below.

    ``serving_default`` takes ``picture`` and returns ``classes``; ``embedding`` returns the mean and an integer.
    """
    import tensorflow as tf

    random = np.random.default_rng(5)

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(random.normal(0, 0.5, (3, 3, 3, 8)).astype("float32"), name="conv/kernel")
            self.bias = tf.Variable(random.normal(0, 0.1, 8).astype("float32"), name="conv/bias")
            self.head = tf.Variable(random.normal(0, 1, (8, 4)).astype("float32"), name="head/kernel")

        def mean(self, picture: Any) -> Any:
            scaled = tf.cast(picture, tf.float32) / 255.0
            with tf.name_scope("conv"):
                lines = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(scaled, self.kernel, 2, "SAME"), self.bias))
            return tf.reduce_mean(lines, (1, 2), name="mean")

        def classes(self, picture: Any) -> Any:
            return {"classes": tf.nn.softmax(tf.linalg.matmul(self.mean(picture), self.head, name="head"), name="end")}

        def embedding(self, picture: Any) -> Any:
            mean = self.mean(picture)
            return {"embedding": mean, "largest": tf.argmax(mean, -1)}

    net = Net()
    spec = tf.TensorSpec((batch, size, size, 3), tf.as_dtype(dtype), name="picture")
    signatures = {
        name: tf.function(function).get_concrete_function(spec)
        for name, function in (("serving_default", net.classes), ("embedding", net.embedding))
    }
    tf.saved_model.save(net, str(folder), signatures=signatures)
    return folder


def write_function(
    folder: Path, function: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, SIZE, SIZE, 3)
) -> Path:
    """Write a SavedModel of one function of a tensor ``picture``, without variables."""
    import tensorflow as tf

    module = tf.Module()
    traced = tf.function(lambda picture: {"result": function(picture)})
    concrete = traced.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="picture"))
    tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete})
    return folder


def changed(source: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    """Copy a SavedModel with its ``GraphDef`` changed."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    shutil.copytree(source, folder)
    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(model.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


def functions_with(graph: Any, operation: str) -> list[Any]:
    """Return the functions of a ``MetaGraphDef`` that have a node of this type."""
    return [
        function
        for function in graph.graph_def.library.function
        if any(node.op == operation for node in function.node_def)
    ]


def answers(folder: Path, picture: Any, signature: str = "serving_default") -> dict[str, np.ndarray]:
    """Return the outputs of a signature, as ``tf.saved_model.load`` gives them."""
    import tensorflow as tf

    function = tf.saved_model.load(str(folder)).signatures[signature]
    (spec,) = function.structured_input_signature[1].values()
    return {name: np.asarray(tensor) for name, tensor in function(**{spec.name: tf.cast(picture, spec.dtype)}).items()}
