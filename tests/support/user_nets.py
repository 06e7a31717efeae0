"""Tiny models of every kind that a user may have saved, with weights that matter, and files of Keras 2 by hand."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xxdeploy.convert.keras_loader import load_keras


def shaken(model: Any) -> Any:
    """Give every weight a value that matters, at which pictures still differ at the end; adapted statistics stay.

    Kernels as K. He et al. draw them (arXiv:1502.01852, equation 10), uniformly.
    """
    random = np.random.default_rng(0)
    for variable in model.variables:
        shape, name = variable.shape, variable.path.rpartition("/")[2]
        if "seed" in variable.path or variable.path.startswith("adapted"):
            continue
        if len(shape) > 1:
            inputs = np.prod(shape[:2] if "depthwise" in name else shape[:-1])
            low, high = -np.sqrt(6 / inputs), np.sqrt(6 / inputs)
        else:
            low, high = (0.5, 1.5) if "variance" in name or "gamma" in name else (-0.3, 0.3)
        variable.assign(random.uniform(low, high, shape).astype(np.float32))
    return model


def saved(model: Any, path: Path) -> Path:
    """Save a model, without Keras' advice about formats."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.save(path)
    finally:
        logger.setLevel(level)
    return path


def net(
    body: Callable[[Any, Any], Any], shape: tuple[int, ...] = (16, 16, 3), *, end: str = "softmax", **options: Any
) -> Any:
    """``body(layers, image)`` between an image and five classes."""
    layers = load_keras().layers
    image = load_keras().Input(shape, **options)
    pooled = layers.GlobalAveragePooling2D(name="pool")(body(layers, image))
    return shaken(load_keras().Model(image, layers.Dense(5, end, name="head")(pooled), name="own"))


def pictures(model: Any, count: int = 3, largest: float = 255.0) -> np.ndarray:
    """Random pictures of the size that ``model`` takes, float32."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).uniform(0, largest, shape).astype(np.float32)


# ------------------------------------------------------------ Keras 2


def old_layer(name: str, kind: str, nodes: list[Any], **config: Any) -> dict[str, Any]:
    """One layer as Keras 2 wrote it: no module, lists for nodes."""
    common = {} if kind == "InputLayer" else {"trainable": True}
    inner = {"name": name, **common, "dtype": "float32", **config}
    return {"class_name": kind, "config": inner, "name": name, "inbound_nodes": nodes}


def old_input(name: str, *shape: int) -> dict[str, Any]:
    return old_layer(name, "InputLayer", [], batch_input_shape=[None, *shape], sparse=False, ragged=False)


def old_operation(name: str, function: str, source: str, **arguments: Any) -> dict[str, Any]:
    return old_layer(name, "TFOpLambda", [[source, 0, 0, {**arguments, "name": None}]], function=function)


def reads(*names: str, at: int = 0, **options: Any) -> list[Any]:
    return [[[name, at, 0, options] for name in names]]


def old_functional(name: str, layers: list[dict[str, Any]], nodes: list[Any] | None = None) -> dict[str, Any]:
    first, last = layers[0]["name"], layers[-1]["name"]
    config = {
        "name": name,
        "trainable": True,
        "layers": layers,
        "input_layers": [[first, 0, 0]],
        "output_layers": [[last, 0, 0]],
    }
    whole: dict[str, Any] = {"class_name": "Functional", "config": config}
    return whole if nodes is None else {**whole, "name": name, "inbound_nodes": nodes}


def old_h5(
    path: Path, config: dict[str, Any], weights: dict[str, dict[str, np.ndarray]], version: str = "2.15.0"
) -> Path:
    """Write a ``.h5`` file as Keras 2 did: weights by layer, in the order of its ``weights``."""
    names = [layer["name"] for layer in config["config"]["layers"]]
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["backend"] = "tensorflow"
        group.attrs["keras_version"] = version
        group.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            inner = group.create_group(name)
            found = weights.get(name, {})
            inner.attrs["weight_names"] = np.array([key.encode() for key in found]) if found else np.zeros(0)
            for key, value in found.items():
                inner.create_dataset(key, data=value)
    return path


def old_keras(path: Path, config: dict[str, Any], weights: dict[str, list[np.ndarray]]) -> Path:
    """Write a ``.keras`` file as Keras 2.13 to 2.15 did; ``weights`` by the path in the weights file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for place, arrays in weights.items():
            for index, array in enumerate(arrays):
                file[f"{place}/vars/{index}"] = array
    config = {"module": "keras.src.engine.functional", "registered_name": "Functional", **config}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", buffer.getvalue())
    return path


MODULE = """
import keras
from pathlib import Path

Path(__file__).with_suffix(".imported").touch()

@keras.saving.register_keras_serializable(package="mine")
class Double(keras.layers.Layer):
    def call(self, x):
        return 2 * x

class Plain(keras.layers.Layer):
    def call(self, x):
        return 3 * x

def cube(x):
    return x * x * x
"""
"""A module of the user's own layers."""
