"""Protocol buffers without their schemas: the fields of one message at a time, as views of the file's bytes.

A SavedModel of a megabyte can name a million nodes, and the generated classes of TensorFlow would build all of them
(and import TensorFlow). Here a message is opened when it is needed, and a message of too many fields is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from xxdeploy.runtime.engines.external_data import read_varint

MAX_FIELDS = 300_000
"""Fields of one message. The main graph of MobileNetV2, as Keras 3 exports it, has 2,367 nodes."""

Fields = dict[int, list[Any]]


class TooManyFieldsError(ValueError):
    """A message has more than ``MAX_FIELDS`` fields."""


def read(view: memoryview) -> Fields:
    """Return the values of each field by its number: integers, floats as 4 or 8 bytes, and views of everything else.

    ``ValueError``: ``view`` is no message; ``TooManyFieldsError``.
    """
    fields: Fields = {}
    at = count = 0
    end = len(view)
    while at < end:
        tag, at = read_varint(view, at, end)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, at = read_varint(view, at, end)
        elif kind == 2:
            length, at = read_varint(view, at, end)
            value, at = view[at : at + length], at + length
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = view[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("it ends in the middle of a field")
        fields.setdefault(tag >> 3, []).append(value)
        count += 1
        if count > MAX_FIELDS:
            raise TooManyFieldsError(f"one message has more than {MAX_FIELDS:,} fields")
    return fields


def text(fields: Fields, number: int) -> str:
    """Return the last value of a field as text, empty if it is absent. ``ValueError``: it is not UTF-8."""
    values = fields.get(number)
    return _bytes(values[-1]).decode() if values else ""


def texts(fields: Fields, number: int) -> list[str]:
    """Return all values of a field as text."""
    return [_bytes(value).decode() for value in fields.get(number, ())]


def integer(fields: Fields, number: int, default: int = 0) -> int:
    """Return the last value of a field as a signed 64-bit integer."""
    values = fields.get(number)
    if not values:
        return default
    if not isinstance(values[-1], int):
        raise ValueError("a number is expected")
    return signed(values[-1])


def signed(value: int) -> int:
    """Return the two's complement of a 64-bit integer."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def integers(fields: Fields, number: int) -> list[int]:
    """Return all values of a repeated integer field, packed or not."""
    found: list[int] = []
    for value in fields.get(number, ()):
        if isinstance(value, int):
            found.append(signed(value))
            continue
        at = 0
        while at < len(value):
            one, at = read_varint(value, at, len(value))
            found.append(signed(one))
    return found


def inner(fields: Fields, number: int) -> Fields:
    """Return the last value of a field as a message; empty if it is absent."""
    values = fields.get(number)
    return read(_view(values[-1])) if values else {}


def mapping(fields: Fields, number: int) -> dict[str, memoryview]:
    """Return a map field with text as its keys and messages (or text) as its values."""
    found: dict[str, memoryview] = {}
    for value in fields.get(number, ()):
        entry = read(_view(value))
        found[text(entry, 1)] = _view(entry[2][-1]) if 2 in entry else memoryview(b"")
    return found


def fixed32(value: Any) -> int:
    """Return a 32-bit field as an unsigned integer."""
    return int(struct.unpack("<I", _view(value))[0])


def shape_of(fields: Mapping[int, list[Any]]) -> list[int | None] | None:
    """Return the sizes of a ``TensorShapeProto``, None for each unknown one; None if the rank is unknown."""
    if fields.get(3, [0])[-1]:
        return None
    sizes = [integer(read(_view(value)), 1) for value in fields.get(2, ())]
    return [None if size < 0 else size for size in sizes]


def _view(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a message is expected")
    return value


def _bytes(value: Any) -> bytes:
    return bytes(_view(value))
