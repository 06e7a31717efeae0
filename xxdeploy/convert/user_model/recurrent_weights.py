"""Weights of recurrent layers that cuDNN or Keras 1 laid out, in the layout of ``LSTM`` and ``GRU`` of Keras 2 and 3.

``CuDNNLSTM`` and ``CuDNNGRU`` (Keras 2.0.9 to 2.15, on a GPU) compute what ``LSTM`` and ``GRU(reset_after=True)`` do
with tanh and sigmoid. They store each gate's kernels transposed, and two biases, which an LSTM adds. Keras 1 stored
three arrays for each gate. The rules are those of ``preprocess_weights_for_loading`` of Keras 2
(``tf_keras/src/saving/legacy/hdf5_format.py``), which decides by the shapes, too: the shape of cuDNN's bias occurs in
no other layer. Keras compares all shapes when it reads the copy.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.optional import extra

Array = NDArray[Any]

CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
"""Layers of cuDNN, and those that compute the same anywhere."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "CuDNNLSTM": {"activation": "tanh", "recurrent_activation": "sigmoid"},
    "CuDNNGRU": {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
}
_OF_KERAS = ("", "keras", "tf_keras", "tensorflow")
_RECURRENT_KERNEL = re.compile(r"(.*)recurrent_kernel(.*)")
_KERAS_1 = re.compile(r"(?P<layer>.*)_U_(?P<gate>[iz])(?P<end>(?::0)?)")
_GATES = {"i": "ifco", "z": "zrh"}
"""The gates of an LSTM and of a GRU of Keras 1, in the order of Keras 2."""


def without_cudnn(config: Any, custom: frozenset[str] = frozenset()) -> tuple[Any, tuple[str, ...]]:
    """Return ``config`` with ``LSTM`` and ``GRU`` in the places of cuDNN's layers, and a note for each. Pure data.

    A class of such a name in ``custom``, or of a module outside Keras, is the user's own and stays.
    """
    notes: list[str] = []

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(item) for item in value]
        if not isinstance(value, dict):
            return value
        item = {key: changed(inner) for key, inner in value.items()}
        name, inner, registered = item.get("class_name"), item.get("config"), item.get("registered_name")
        if not isinstance(name, str) or name not in CUDNN or name in custom or not isinstance(inner, dict):
            return item
        if str(item.get("module") or "").partition(".")[0] not in _OF_KERAS or registered not in (None, "", name):
            return item
        kept = {key: option for key, option in item.items() if key not in ("module", "registered_name")}
        notes.append(f"{inner.get('name')} ({name}) is exported as {CUDNN[name]}, which computes the same")
        return {**kept, "class_name": CUDNN[name], "config": {**inner, **_OPTIONS[name]}}

    return changed(config), tuple(notes)


def readable_weights(source: Path, folder: Path) -> Path:
    """Return ``source``, or a copy in ``folder`` with the arrays of recurrent layers as Keras 3 reads them.

    ``source`` is an HDF5 file that the quarantine has checked: plain arrays, no links.
    """
    with extra("export"):
        import h5py
    with h5py.File(source, "r") as file:
        groups: list[str] = []
        file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) else None)
        cudnn = [names for name in groups for names in _cudnn_arrays(file[name], h5py.Dataset)]
        keras_1 = [name for name in groups if _keras_1_layers(_weight_names(file[name]))]
    if not cudnn and not keras_1:
        return source
    target = folder / "recurrent.weights.h5"
    shutil.copyfile(source, target)
    with h5py.File(target, "r+") as file:
        for names in cudnn:
            arrays = arrays_from_cudnn(*(file[name][()] for name in names))
            for name, array in zip(names, arrays, strict=True):
                del file[name]
                file[_in_cell(name)] = array
        for name in keras_1:
            _join_gates(file[name])
    return target


def arrays_from_cudnn(kernel: Array, recurrent: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Return the arrays of an ``LSTM``, or of a ``GRU`` with ``reset_after``, from those of cuDNN.

    Shapes: (inputs, gates * units), (units, gates * units), (2 * gates * units,) with 4 or 3 gates. The bias becomes
    (4 * units,) or (2, 3 * units).
    """
    gates = recurrent.shape[1] // recurrent.shape[0]
    # Fortran order, as in Keras: an input kernel is transposed in memory, its shape stays.
    inputs = [gate.T.reshape(gate.shape, order="F") for gate in np.split(kernel, gates, axis=1)]
    states = [gate.T for gate in np.split(recurrent, gates, axis=1)]
    biases = bias.reshape(2, -1)
    return np.hstack(inputs), np.hstack(states), biases.sum(axis=0) if gates == 4 else biases


def _cudnn_arrays(group: Any, dataset: type) -> Iterator[tuple[str, str, str]]:
    """Yield the paths of kernel, recurrent kernel and bias of each layer of cuDNN whose arrays lie in ``group``."""
    arrays: dict[str, Any] = {name: item for name, item in group.items() if isinstance(item, dataset)}
    candidates = [("0", "1", "2")] if group.name.endswith("/vars") and len(arrays) == 3 else []
    matches = filter(None, map(_RECURRENT_KERNEL.fullmatch, arrays))
    candidates += [(f"{match[1]}kernel{match[2]}", match[0], f"{match[1]}bias{match[2]}") for match in matches]
    for names in candidates:
        if all(name in arrays for name in names):
            kernel, recurrent, bias = (tuple(arrays[name].shape) for name in names)
            units, width = recurrent if len(recurrent) == 2 else (0, 0)
            if units and width in (3 * units, 4 * units) and kernel[1:] == (width,) and bias == (2 * width,):
                yield (f"{group.name}/{names[0]}", f"{group.name}/{names[1]}", f"{group.name}/{names[2]}")


def _in_cell(path: str) -> str:
    """Return the path of an array in an archive below its layer's cell; that of an HDF5 file as it is."""
    layer, _, name = path.rpartition("/")
    return f"{layer.removesuffix('vars')}cell/vars/{name}" if layer.endswith("/vars") else path


def _weight_names(group: Any) -> list[str]:
    names = group.attrs.get("weight_names", ())
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _keras_1_layers(names: list[str]) -> Mapping[str, tuple[list[list[str]], list[str]]]:
    """Map the first array of each LSTM and GRU of Keras 1 to its arrays and to the names of Keras 2.

    The arrays are input kernels, recurrent kernels and biases, each in the order of Keras 2's gates.
    """
    layers = {}
    for name in names:
        if match := _KERAS_1.fullmatch(name):
            layer, end = match["layer"], match["end"]
            arrays = [[f"{layer}_{kind}_{gate}{end}" for gate in _GATES[match["gate"]]] for kind in "WUb"]
            if all(array in names for kind in arrays for array in kind):
                layers[arrays[0][0]] = arrays, [f"{layer}_{kind}{end}" for kind in "WUb"]
    return layers


def _join_gates(group: Any) -> None:
    names = _weight_names(group)
    layers = _keras_1_layers(names)
    gone = {name for arrays, _ in layers.values() for kind in arrays for name in kind}
    made = []
    for name in names:
        if name in layers:
            arrays, joined = layers[name]
            for kind, new in zip(arrays, joined, strict=True):
                group[new] = np.concatenate([group[gate][()] for gate in kind], axis=-1)
            made += joined
        elif name not in gone:
            made.append(name)
    for name in gone:
        del group[name]
    group.attrs["weight_names"] = np.array([name.encode() for name in made])  # as Keras writes it
