"""Check that an HDF5 file is a tree of plain numeric arrays that are stored in full, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xxdeploy.convert.user_model.quarantine.archive import MAX_CONFIG, damaged, unsafe
from xxdeploy.convert.user_model.quarantine.facts import count_parameters
from xxdeploy.errors import ConversionError
from xxdeploy.optional import extra

_MAX_OBJECTS, _MAX_DEPTH, _MAX_AXES = 200_000, 64, 8
_MAX_ATTRIBUTES = 64 << 20  # bytes of all of them
_FLOOR, _MAX_RATIO = 1 << 20, 20  # one array
_TOTAL_FLOOR, _TOTAL_RATIO = 256 << 20, 4  # all arrays, relative to the file: floats hardly compress
_FILTERS = frozenset({1, 2, 3, 32000})  # deflate, shuffle, fletcher32, lzf: others are loaded from shared libraries


def read_hdf5(data: Path, path: Path) -> tuple[bytes | None, bytes | None, int, int]:
    """Return the model's configuration (None: weights only), Keras' version, and two counts.

    The counts are those of all numbers in the file, and of the numbers without the state of an optimizer.

    ``data`` is the HDF5 file; messages name ``path``, the archive that contained it.

    Raises
    ------
    ConversionError
        ``damaged-model``: truncated or unreadable. ``unsafe-model``: links, arrays stored in other files or built from
        other arrays, objects (pickles), unknown filters, an object under two names (cycles), arrays that declare more
        bytes than are stored.
    """
    with extra("export"):
        import h5py
    try:
        with h5py.File(data, "r") as file:
            numbers = _count(h5py, file, path, data.stat().st_size)
            texts = _text(file, "model_config", path), _text(file, "keras_version", path)
            return *texts, numbers, count_parameters(file)
    except ConversionError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError) as error:
        raise damaged(path, str(error)) from error


def is_by_layer_name(path: Path) -> bool:
    """Tell whether an HDF5 file that :func:`read_hdf5` accepted has the layout of Keras 1 and 2, by layer name."""
    import h5py

    with h5py.File(path, "r") as file:
        return "layer_names" in file.attrs or "model_weights" in file


def layers_with_weights(path: Path) -> tuple[str, ...]:
    """Return the names of the layers that have weights, of a file by layer name that :func:`read_hdf5` accepted."""
    import h5py

    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in root.attrs.get("layer_names", ())]
        return tuple(name for name in names if name in root and len(root[name].attrs.get("weight_names", ())))


def _count(h5py: Any, file: Any, path: Path, size: int) -> int:
    numbers = declared = attributes = 0
    for place, item in _walk(h5py, file, path):
        attributes += _attribute_bytes(item, place, path)
        if attributes > _MAX_ATTRIBUTES:
            raise unsafe(path, f"its attributes have more than {_MAX_ATTRIBUTES:,} bytes")
        if isinstance(item, h5py.Dataset):
            declared += _check_array(item, place, path)
            numbers += math.prod(item.shape)
    if declared > _TOTAL_FLOOR and declared > _TOTAL_RATIO * size:
        raise unsafe(path, f"its arrays declare {declared:,} bytes, and the file has {size:,}")
    return numbers


def _walk(h5py: Any, file: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the root and each object below it once; refuse hard links that give an object two names."""
    stack, seen = [("", file["/"], 0)], set()
    while stack:
        place, item, depth = stack.pop()
        info = h5py.h5o.get_info(item.id)
        if (info.fileno, info.addr) in seen:
            raise unsafe(path, f"the object {place} has a second name")
        seen.add((info.fileno, info.addr))
        if len(seen) > _MAX_OBJECTS or depth > _MAX_DEPTH:
            raise unsafe(path, f"it has over {_MAX_OBJECTS:,} objects, or groups nested over {_MAX_DEPTH} deep")
        yield place, item
        if not isinstance(item, h5py.Group):
            continue
        for name in item:
            link = item.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise unsafe(path, f"{place}/{name} is a link to another place or file ({type(link).__name__})")
            child = item.get(name)
            if not isinstance(child, (h5py.Group, h5py.Dataset)):
                raise unsafe(path, f"{place}/{name} is neither a group nor an array")
            stack.append((f"{place}/{name}", child, depth + 1))


def _check_array(item: Any, place: str, path: Path) -> int:
    """Return the bytes that an array declares, once it is known to be plain."""
    kind, size = item.dtype.kind, item.dtype.itemsize
    if kind not in "fiub" and not (kind == "V" and size <= 2 and item.dtype.names is None):  # V: bfloat16, float8
        raise unsafe(path, f"{place} holds objects of type {item.dtype}, not numbers")
    if item.shape is None or len(item.shape) > _MAX_AXES:
        raise unsafe(path, f"{place} has the shape {item.shape}")
    if item.external or item.is_virtual:
        raise unsafe(path, f"{place} reads its numbers from another array or file")
    plan = item.id.get_create_plist()
    filters = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())}
    if filters - _FILTERS:
        raise unsafe(path, f"{place} is packed by unknown filters {sorted(filters - _FILTERS)}")
    declared, stored = math.prod(item.shape) * size, item.id.get_storage_size()
    if declared > _FLOOR and declared > _MAX_RATIO * stored:
        raise unsafe(path, f"{place} declares {declared:,} bytes, and {stored:,} are stored")
    return int(declared)


def _attribute_bytes(item: Any, place: str, path: Path) -> int:
    """Return the bytes of all attributes, which Keras reads whole."""
    total = 0
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        kind = attribute.dtype.kind
        if kind not in "fiubSO" or (kind == "O" and not _is_text(attribute.dtype)):
            raise unsafe(path, f"the attribute {name!r} of {place or '/'} is of type {attribute.dtype}")
        total += math.prod(attribute.shape or ()) * attribute.dtype.itemsize
        if total > _MAX_ATTRIBUTES:
            break
        if kind == "O":  # text of variable length: its size is known once it is read
            value = item.attrs[name]
            total += sum(len(text) for text in ([value] if isinstance(value, (str, bytes)) else value.ravel()))
    return total


def _is_text(dtype: Any) -> bool:
    import h5py

    return h5py.check_string_dtype(dtype) is not None


def _text(file: Any, name: str, path: Path) -> bytes | None:
    value = file.attrs.get(name)
    if value is None:
        return None
    data = value.encode() if isinstance(value, str) else bytes(value)
    if len(data) > MAX_CONFIG:
        raise unsafe(path, f"its {name} has {len(data):,} bytes")
    return data
