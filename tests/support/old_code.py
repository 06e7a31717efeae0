"""Code objects as Python 2.7 and 3.5 to 3.7 marshalled them, put together by hand from their instructions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any


def code_of_2_7(instructions: str, constants: Sequence[Any], names: Sequence[str] = ()) -> bytes:
    """A function of ``x`` with ``instructions`` in hexadecimal."""
    head = b"c" + struct.pack("<4I", 1, 1, 3, 0x43)
    texts = b"".join(map(_old_value, (tuple(names), ("x",), (), (), "<stdin>", "<lambda>")))
    return head + _bytes(bytes.fromhex(instructions)) + _old_value(tuple(constants)) + texts + _line()


def code_of_3_5(instructions: str, constants: Sequence[Any], names: Sequence[str] = ()) -> bytes:
    """A function of ``x`` in the layout of Python 3.5 to 3.7."""
    head = b"\xe3" + struct.pack("<5I", 1, 0, 1, 3, 0x43)
    texts = b"".join(map(_value, (tuple(names), ("x",), (), (), "<stdin>", "<lambda>")))
    return head + _bytes(bytes.fromhex(instructions)) + _value(tuple(constants)) + texts + _line()


def _line() -> bytes:
    return struct.pack("<I", 1) + _bytes(b"")


def _bytes(content: bytes) -> bytes:
    return b"s" + struct.pack("<I", len(content)) + content


def _value(value: Any) -> bytes:
    if isinstance(value, tuple):
        return b")" + bytes([len(value)]) + b"".join(map(_value, value))
    if isinstance(value, str):
        return b"z" + bytes([len(value)]) + value.encode()
    return _number(value)


def _old_value(value: Any) -> bytes:
    if isinstance(value, tuple):
        return b"(" + struct.pack("<I", len(value)) + b"".join(map(_old_value, value))
    return _bytes(value.encode()) if isinstance(value, str) else _number(value)


def _number(value: Any) -> bytes:
    if value is None:
        return b"N"
    return b"g" + struct.pack("<d", value) if isinstance(value, float) else b"i" + struct.pack("<i", value)
