"""Makes model files with the standard library, numpy and h5py: small good ones, and every kind of bad one."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from xxdeploy.convert.user_model.quarantine.child import inspect
from xxdeploy.convert.user_model.quarantine.sniff import sniff
from xxdeploy.errors import XXDeployError

Config = dict[str, Any]


def layer(module: str | None, name: str, config: Config, reads: str | None = None, **rest: Any) -> Config:
    """One layer of a Functional model as Keras 3 writes it."""
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [], "dtype": "float32", "keras_history": [reads, 0, 0]},
    }
    nodes = [] if reads is None else [{"args": [tensor], "kwargs": {}}]
    item = {"module": module, "class_name": name, "config": config, "registered_name": None, "name": config["name"]}
    return {**item, "inbound_nodes": nodes, **rest}


def model(*inner: Config, units: int = 3) -> Config:
    """A classifier of 4 x 4 pictures with ``inner`` between the input and the last layer."""
    image = layer("keras.layers", "InputLayer", {"name": "image", "batch_shape": [None, 4, 4, 3], "dtype": "float32"})
    last = inner[-1]["name"] if inner else "image"
    flat = layer("keras.layers", "Flatten", {"name": "flat"}, last)
    dense = layer("keras.layers", "Dense", {"name": "dense", "units": units, "activation": "softmax"}, "flat")
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": {
            "name": "net",
            "layers": [image, *inner, flat, dense],
            "input_layers": ["image", 0, 0],
            "output_layers": ["dense", 0, 0],
        },
    }


def weights(write: Callable[[h5py.File], object] | None = None, *, units: int = 3) -> bytes:
    """The weights of ``model`` as Keras 3 lays them out, changed by ``write``."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        random = np.random.default_rng(0)
        file["layers/dense/vars/0"] = random.normal(0, 0.1, (48, units)).astype(np.float32)
        file["layers/dense/vars/1"] = random.normal(0, 0.1, units).astype(np.float32)
        for name in ("flatten", "input_layer"):
            file.create_group(f"layers/{name}/vars")
        if write is not None:
            write(file)
    return buffer.getvalue()


def archive(
    path: Path,
    config: Any = None,
    data: bytes | None = None,
    *,
    extra: tuple[tuple[str, bytes], ...] = (),
    **options: Any,
) -> Path:
    """A ``.keras`` file. ``config`` is text, bytes or what becomes JSON."""
    config = model() if config is None else config
    text = config if isinstance(config, (str, bytes)) else json.dumps(config)
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        file.writestr("config.json", text)
        file.writestr("model.weights.h5", weights() if data is None else data)
        for name, content in extra:
            file.writestr(name, content)
    return path


def legacy(path: Path, config: Any = None, write: Callable[[h5py.File], object] | None = None) -> Path:
    """A ``.h5`` file of Keras 3: the same model, its weights by layer."""
    config = model() if config is None else config
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "3.15.1"
        file.attrs["model_config"] = (
            config if isinstance(config, (str, bytes)) else json.dumps(_without_modules(config))
        )
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"image", b"flat", b"dense"])
        for name in ("image", "flat"):
            group.create_group(name).attrs["weight_names"] = np.array([], dtype="S1")
        dense = group.create_group("dense")
        dense.attrs["weight_names"] = np.array([b"dense/kernel", b"dense/bias"])
        random = np.random.default_rng(0)
        dense["dense/kernel"] = random.normal(0, 0.1, (48, 3)).astype(np.float32)
        dense["dense/bias"] = random.normal(0, 0.1, 3).astype(np.float32)
        if write is not None:
            write(file)
    return path


def _without_modules(value: Any) -> Any:
    value = copy.deepcopy(value)
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "class_name" in item and str(item.get("module")).startswith("keras"):
                item.pop("module", None)
                item.pop("registered_name", None)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return value


def refused(path: Path, tmp_path: Path, **options: Any) -> XXDeployError:
    """Return the error of looking at ``path`` in this process, which is where the child does it, too."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(XXDeployError) as caught:
        inspect(path, sniff(path), folder, **options)
    assert caught.value.hint
    return caught.value


def refusal_code(path: Path, tmp_path: Path, **options: Any) -> str:
    return refused(path, tmp_path, **options).code
