"""Functions of Lambda layers, as people write them: each text defines one function of a tensor (n, 8, 8, 4)."""

from __future__ import annotations

import base64
import json
import marshal
from pathlib import Path
from typing import Any

SOURCES = {
    "scale": "lambda x: x / 255",
    "scale and shift": "lambda x: x / 127.5 - 1.0",
    "shift and scale": "lambda x: (x - 0.5) * 2",
    "negative": "lambda x: -x + 1",
    "polynomial": "lambda x: x ** 2 + x",
    "l2 of K": "lambda x: K.l2_normalize(x, axis=-1)",
    "l2 of tf": "lambda x: tf.math.l2_normalize(x, axis=3, epsilon=1e-6)",
    "depth to space": "lambda x: tf.nn.depth_to_space(x, 2)",
    "space to depth": "lambda x: tf.nn.space_to_depth(x, block_size=2)",
    "reversed channels": "lambda x: x[..., ::-1]",
    "caffe": "lambda x: x[:, :, :, ::-1] - [103.9, 116.8, 123.7, 1.0]",
    "crop": "lambda x: x[:, 1:-1, 2:, :]",
    "one channel": "lambda x: x[:, :, :, 1:2]",
    "mean": "lambda x: K.mean(x, axis=[1, 2], keepdims=True)",
    "sum": "lambda x: tf.reduce_sum(x, axis=-1, keepdims=True) * 0.1",
    "resize": "lambda x: tf.image.resize(x, (5, 12))",
    "resize nearest": "lambda x: tf.image.resize(x, [16, 16], method='nearest')",
    "relu6": "lambda x: tf.nn.relu6(x)",
    "relu of K": "lambda x: K.relu(x, alpha=0.1, max_value=3)",
    "softmax": "lambda x: K.softmax(x)",
    "expand and squeeze": "lambda x: tf.squeeze(K.expand_dims(x, 1), [1])",
    "pad": "lambda x: tf.pad(x, [[0, 0], [1, 1], [2, 2], [0, 0]], 'REFLECT')",
    "cast": "lambda x: tf.cast(x, tf.float32) / 255.0",
    "clip": "lambda x: K.clip(x, 0, 1)",
    "steps": (
        "def steps(x):\n    import tensorflow as tf\n    y = x / 2.0\n    y -= 0.5\n    return tf.maximum(y, x * 0.1)"
    ),
}
PAIRS = {
    "distance": "lambda x: K.abs(x[0] - x[1])",
    "euclidean": ("def distance(ab):\n    a, b = ab\n    return K.sqrt(K.sum(K.square(a - b), axis=1, keepdims=True))"),
}
"""Functions of a list of two tensors."""
REFUSED = {
    "a call": ("lambda x: exec('import os')", "calls exec"),
    "a choice": ("lambda x: x if training else -x", "more than an expression"),
    "a function inside": ("lambda x: (lambda y: y)(x)", "functions"),
    "a global number": ("lambda x: x / SCALE", "other things than tensors"),
    "the batch": ("lambda x: K.mean(x)", "mixes the images of a batch"),
    "an image of the batch": ("lambda x: x[0]", "images out of the batch"),
    "a random draw": ("lambda x: x + tf.random.normal([3])", "calls tf.random.normal"),
    "a shape": ("lambda x: tf.reshape(x, (-1, x.shape[1]))", "reads the attribute shape"),
    "a constant": ("lambda x: 3", "does not return a tensor"),
    "a huge number": ("lambda x: x * 9.0 ** 9 ** 9", "cannot be computed"),
    "attributes of a tensor": ("lambda x: x.__class__.__mro__[1]", "reads the attribute"),
    "preprocess_input": ("lambda x: preprocess_input(x)", "calls preprocess_input"),
}
"""Functions that no tree can stand for, with a part of the reason."""


BYTECODE: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("lambda_bytecode.json").read_text(encoding="utf-8")
)
"""By version and name: ``base64(marshal.dumps(function.__code__))`` of CPython 3.10, 3.12, 3.13 and 3.14 (Pyodide)."""


def function(source: str, tf: Any, backend: Any) -> Any:
    """Return the function of ``source``, as a script of its author defines it."""
    scope: dict[str, Any] = {"tf": tf, "K": backend}
    exec(source if source.startswith("def") else f"defined = {source}", scope)
    return next(value for name, value in scope.items() if name not in ("tf", "K", "__builtins__"))


def bytecodes(name: str) -> dict[str, bytes]:
    """Return the marshalled code of a function in each version of Python, this one included."""
    texts = SOURCES | PAIRS | {name: text for name, (text, _) in REFUSED.items()}
    own = marshal.dumps(function(texts[name], None, None).__code__)
    return {"this": own, **{version: base64.b64decode(table[name]) for version, table in BYTECODE.items()}}
