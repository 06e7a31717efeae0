"""The weights of a ``.keras`` archive under the names that Keras 3 looks for.

Keras 3 numbers the layers of one class within their model: ``layers/conv2d``, ``layers/conv2d_1``. tf.keras 2.12 to
2.15 skipped numbers (``conv2d``, ``conv2d_2``, ``conv2d_4``), called the group ``_layer_checkpoint_dependencies``, and
wrote backslashes on Windows. In all of them the numbers of one class grow in the order of the layers, so counting again
from zero gives the names of Keras 3. Layers of cuDNN get the names of the
``LSTM`` and ``GRU`` in their places. Keras compares the shapes when it reads the copy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xxdeploy.optional import extra

_OLD_CONTAINER, _CONTAINER = "_layer_checkpoint_dependencies", "layers"
_STEMS = {"cu_dnnlstm": "lstm", "cu_dnngru": "gru"}
_NUMBERED = re.compile(r"(.*?)(?:_(\d+))?", re.DOTALL)


def renamed_weights(source: Path, folder: Path) -> Path:
    """Return ``source``, of an archive of tf.keras, or a copy in ``folder`` with the names of Keras 3 if they differ.

    ``source`` is an HDF5 file that the quarantine has checked: plain arrays, no links.
    """
    with extra("export"):
        import h5py
    with h5py.File(source, "r") as file:
        items: dict[str, bool] = {}  # whether each is an array
        file.visititems(lambda name, item: items.update({name: isinstance(item, h5py.Dataset)}))
        renamed = new_names(list(items))
        names = {old: new for old, new in renamed.items() if items[old]}
        if all(old == new for old, new in names.items()):
            return source
        target = folder / "renamed.weights.h5"
        with h5py.File(target, "w") as copy:
            for old, new in names.items():
                _write(copy, new, file[old])
        return target


def weights_of_part(source: Path, folder: Path, order: Sequence[tuple[str, str]], model: Any) -> Path:
    """Return ``source``, or a copy in ``folder`` with the names that Keras looks for, which numbers layers by class.

    ``order`` has name and class of each layer of the file; it is empty if ``model`` has them all.
    """
    if not order:
        return source
    with extra("export"):
        import h5py
    stored = _numbered(order)
    wanted = _numbered([(layer.name, type(layer).__name__) for layer in model.layers])
    names = {f"{_CONTAINER}/{stored[name]}/": f"{_CONTAINER}/{new}/" for name, new in wanted.items() if name in stored}
    if all(old == new for old, new in names.items()):
        return source
    target = folder / "part.weights.h5"
    with h5py.File(source, "r") as file, h5py.File(target, "w") as copy:

        def write(name: str, item: Any) -> None:
            place = next((old for old in names if name.startswith(old)), None)
            if place is not None and isinstance(item, h5py.Dataset):
                _write(copy, names[place] + name.removeprefix(place), item)

        file.visititems(write)
    return target


def _numbered(order: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Map the name of each layer to that of its weights: its class in small letters, numbered from the second on."""
    from keras.src.utils.naming import to_snake_case

    counts: defaultdict[str, int] = defaultdict(int)
    names = {}
    for name, kind in order:
        stem = to_snake_case(kind.rpartition(">")[2])
        names[name] = f"{stem}_{counts[stem]}" if counts[stem] else stem
        counts[stem] += 1
    return names


def _write(copy: Any, name: str, array: Any) -> None:
    copy.create_dataset(name, data=array[()]).attrs.update(dict(array.attrs))


def new_names(items: list[str]) -> dict[str, str]:
    """Map the path of each group and array to the one that Keras 3 gives it.

    Layers without weights are groups without arrays, and are counted, too.
    """
    parts = {name: name.replace("\\", "/").split("/") for name in items}
    for path in parts.values():
        path[:] = [_CONTAINER if part == _OLD_CONTAINER else part for part in path]
    children: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in parts.values():
        for depth, part in enumerate(path):
            if depth and path[depth - 1] == _CONTAINER:
                children[tuple(path[:depth])].add(part)
    renamed = {(*parent, old): new for parent, names in children.items() for old, new in _counted(names).items()}
    return {
        name: "/".join(renamed.get(tuple(path[: depth + 1]), part) for depth, part in enumerate(path))
        for name, path in parts.items()
    }


def _counted(names: set[str]) -> dict[str, str]:
    """Number the names of each class from zero, in the order of their numbers; zero is left out."""
    classes: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.fullmatch(name)
        assert match is not None  # the pattern takes any text
        classes[_stem(match[1], names)].append((int(match[2] or 0), name))
    return {
        name: f"{base}_{index}" if index else base
        for base, members in classes.items()
        for index, (_, name) in enumerate(sorted(members))
    }


def _stem(stem: str, names: set[str]) -> str:
    """Return the stem of the layer in the place of one of cuDNN, unless a model has both: their order is not known."""
    taken = any(match[1] == _STEMS.get(stem) for match in map(_NUMBERED.fullmatch, names) if match is not None)
    return stem if taken else _STEMS.get(stem, stem)
