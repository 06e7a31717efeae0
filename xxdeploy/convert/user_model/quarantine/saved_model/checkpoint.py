"""The index of a SavedModel's variables: a table of names, each with its type, its shape and its place in a file.

``variables.index`` is a table as in LevelDB (https://github.com/google/leveldb/blob/main/doc/table_format.md), whose
values are ``BundleEntryProto`` (tensorflow/core/protobuf/tensor_bundle.proto). It is checked here against the sizes of
the data files; TensorFlow reads the values later and compares their checksums.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.convert.user_model.quarantine.saved_model import message
from xxdeploy.runtime.engines.external_data import read_varint

PREFIX = "variables"
_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
_MAX_INDEX = 64 << 20
_MAX_ENTRIES = 200_000
_MAX_SHARDS = 4096
_HEADER = b""

SIZES = {1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 9: 8, 10: 1, 14: 2, 17: 2, 19: 2, 22: 4, 23: 8}
"""Bytes of one number of each ``tf.DType`` that a variable may have, by its number."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One variable: the number of its ``tf.DType``, its shape, and the bytes ``offset`` to ``offset + size``."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def read_index(folder: Path) -> dict[str, Entry]:
    """Return the variables of ``folder`` (the folder ``variables`` of a SavedModel) by their names in the index.

    Each numeric entry lies inside its data file and has the bytes of its shape. ``ValueError``: the index is damaged,
    or an entry lies outside. ``OSError``.
    """
    path = folder / f"{PREFIX}.index"
    size = path.stat().st_size
    if size > _MAX_INDEX:
        raise ValueError(f"{path.name} has {size:,} bytes, more than {_MAX_INDEX:,}")
    table = memoryview(path.read_bytes())
    if len(table) < _FOOTER or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise ValueError(f"{path.name} is cut off, or is no table of TensorFlow")
    _, _, at = _handle(table, len(table) - _FOOTER)
    start, length, _ = _handle(table, at)
    entries: dict[str, Entry] = {}
    sizes: dict[int, int] = {}
    shards = 1
    for _, handle in _block(table, start, length):
        first, extent, _ = _handle(handle, 0)
        for key, value in _block(table, first, extent):
            fields = message.read(value)
            if key == _HEADER:
                shards = message.integer(fields, 1)
                if not 0 < shards <= _MAX_SHARDS or message.integer(fields, 2):
                    raise ValueError(f"{path.name} claims {shards} data files, or numbers in big-endian order")
                continue
            if len(entries) > _MAX_ENTRIES:
                raise ValueError(f"{path.name} has more than {_MAX_ENTRIES:,} variables")
            name = key.decode()
            entries[name] = _entry(name, fields, folder, shards, sizes)
    return entries


def _entry(name: str, fields: message.Fields, folder: Path, shards: int, sizes: dict[int, int]) -> Entry:
    shape = message.shape_of(message.inner(fields, 2))
    dtype, shard = message.integer(fields, 1), message.integer(fields, 3)
    offset, size = message.integer(fields, 4), message.integer(fields, 5)
    if shape is None or None in shape:
        raise ValueError(f"the variable {name!r} has no shape")
    sides = tuple(side for side in shape if side is not None)
    if fields.get(7):
        raise ValueError(f"the variable {name!r} is stored in slices, which xxdeploy does not read")
    if not 0 <= shard < shards:
        raise ValueError(f"the variable {name!r} is in the data file {shard} of {shards}")
    if shard not in sizes:
        sizes[shard] = data_file(folder, shard, shards).stat().st_size
    if offset < 0 or size < 0 or offset + size > sizes[shard]:
        raise ValueError(
            f"the variable {name!r} ends at byte {offset + size:,} of a file of {sizes[shard]:,} bytes: it is cut off"
        )
    if dtype in SIZES and math.prod(sides) * SIZES[dtype] != size:
        raise ValueError(f"the variable {name!r} of the shape {sides} has {size:,} bytes")
    return Entry(dtype, sides, shard, offset, size)


def data_file(folder: Path, shard: int, shards: int) -> Path:
    """Return the path of a file of values."""
    return folder / f"{PREFIX}.data-{shard:05d}-of-{shards:05d}"


def _handle(view: memoryview, at: int) -> tuple[int, int, int]:
    """Return offset and size of a block, and where the handle ends."""
    offset, at = read_varint(view, at, len(view))
    size, at = read_varint(view, at, len(view))
    return offset, size, at


def _block(table: memoryview, start: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the keys and values of a block, whose keys share their beginnings with the key before."""
    if start + size + _TRAILER > len(table) or size < 4:
        raise ValueError("its index is cut off")
    if table[start + size]:
        raise ValueError("its index is compressed, which TensorFlow does not write")
    block = table[start : start + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = size - 4 - 4 * restarts
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at, end)
        fresh, at = read_varint(block, at, end)
        length, at = read_varint(block, at, end)
        if shared > len(key) or at + fresh + length > end:
            raise ValueError("its index is damaged")
        key = key[:shared] + bytes(block[at : at + fresh])
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length
