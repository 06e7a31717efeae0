"""Read a marshalled code object of any CPython from 2.7 to 3.14 as plain data, within limits.

``marshal.loads`` crashes on hostile bytes, builds whatever they say, and reads the code of its own version only. This
reader builds numbers, text, tuples and code objects, and nothing else. The format is that of CPython's
``Python/marshal.c``; the bytes do not tell the version, so each layout that fits is returned.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

Layout = Literal["2.7", "3.5", "3.8", "3.11"]
"""The first version of Python whose code objects have this layout."""
LAYOUTS: tuple[Layout, ...] = ("2.7", "3.5", "3.8", "3.11")

MAX_BYTES = 1 << 16
UNREADABLE = "its bytecode cannot be read"
_MAX_DEPTH, _MAX_SIZE = 16, 4096  # of nested tuples, and of all objects with what they refer to
_MAX_DIGITS = 8  # of 15 bits
_FREE, _CELL = 0x80, 0x40
_REF = 0x80


class UnknownCodeError(ValueError):
    """The bytes are not a code object of a known form; the text says why."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code object: ``variables`` are its local names, the arguments first; ``captured`` the names of ``LOAD_DEREF``.

    ``free`` are the captured names whose values the closure holds, in its order.
    """

    layout: Layout
    arguments: int
    flags: int
    instructions: bytes
    constants: tuple[Any, ...]
    names: tuple[str, ...]
    variables: tuple[str, ...]
    captured: tuple[str, ...]
    free: tuple[str, ...]


def read_code(data: bytes) -> tuple[Code, ...]:
    """Return ``data`` as a code object in each layout that fits it exactly.

    Raises
    ------
    UnknownCodeError
        No layout fits, or the code contains what no expression needs: functions, sets, complex numbers, deep or huge
        constants.
    """
    if len(data) > MAX_BYTES:
        raise UnknownCodeError(f"it has {len(data):,} bytes of bytecode")
    codes, reasons = [], []
    for layout in LAYOUTS:
        try:
            codes.append(_Reader(data, layout).whole())
        except UnknownCodeError as error:
            reasons.append(str(error))
    if not codes:
        raise UnknownCodeError(next((text for text in reasons if text != UNREADABLE), UNREADABLE))
    return tuple(codes)


class _Reader:
    def __init__(self, data: bytes, layout: Layout) -> None:
        self._data, self._at, self._layout = data, 0, layout
        self._references: list[tuple[Any, int]] = []  # each with its size
        self._interned: list[str] = []  # of Python 2
        self._size = 0

    def whole(self) -> Code:
        """Read one code object that fills the data."""
        mark = self._byte()
        if mark & ~_REF != ord("c"):
            raise UnknownCodeError(UNREADABLE)
        if mark & _REF:
            self._references.append((None, 0))
        code = self._code()
        if self._at != len(self._data):
            raise UnknownCodeError(UNREADABLE)
        return code

    def _code(self) -> Code:
        old, new = self._layout == "2.7", self._layout == "3.11"
        arguments = self._number()
        if self._layout in ("3.8", "3.11"):
            self._zero()  # positional-only arguments
        if not old:
            self._zero()  # keyword-only arguments
        if not new:
            self._number()  # local variables
        self._number()  # depth of the stack
        flags = self._number()
        instructions = self._value(raw=True)
        constants = self._value()
        names, variables = self._texts(), self._texts()
        if new:
            kinds = self._value(raw=True)
            if not isinstance(kinds, bytes) or len(kinds) != len(variables):
                raise UnknownCodeError(UNREADABLE)
            cells = tuple(name for name, kind in zip(variables, kinds, strict=True) if kind & _CELL)
            free = tuple(name for name, kind in zip(variables, kinds, strict=True) if kind & _FREE)
            captured = variables
        else:
            free, cells = self._texts(), self._texts()
            captured = (*cells, *free)
        if cells:
            raise UnknownCodeError("it contains a function of its own")
        for _ in range(3 if new else 2):  # file, name, and qualified name
            self._value()
        self._number()  # line
        for _ in range(2 if new else 1):  # tables of lines and exceptions
            self._value(raw=True)
        if not isinstance(instructions, bytes) or not isinstance(constants, tuple) or arguments > len(variables):
            raise UnknownCodeError(UNREADABLE)
        return Code(self._layout, arguments, flags, instructions, constants, names, variables, captured, free)

    def _texts(self) -> tuple[str, ...]:
        value = self._value()
        if not isinstance(value, tuple) or not all(isinstance(text, str) for text in value):
            raise UnknownCodeError(UNREADABLE)
        return value

    def _zero(self) -> None:
        if self._number():
            raise UnknownCodeError("it has arguments of a rare kind")

    def _value(self, depth: int = 0, *, raw: bool = False) -> Any:
        """Read one object. ``raw``: text of Python 2 stays bytes."""
        if depth > _MAX_DEPTH:
            raise UnknownCodeError(f"its constants are nested over {_MAX_DEPTH} deep")
        mark = self._byte()
        kind, referred = chr(mark & ~_REF), bool(mark & _REF)
        if kind == "r":
            return self._referred()
        place, before = len(self._references), self._size
        if referred:
            self._references.append((None, 0))
        self._grow(1)
        value = self._tuple(kind, depth) if kind in "()" else self._plain(kind, raw=raw)
        if referred:
            self._references[place] = (value, self._size - before)
        return value

    def _referred(self) -> Any:
        index = self._number()
        if index >= len(self._references) or not self._references[index][1]:
            raise UnknownCodeError(UNREADABLE)
        value, size = self._references[index]
        self._grow(size)
        return value

    def _tuple(self, kind: str, depth: int) -> tuple[Any, ...]:
        count = self._number() if kind == "(" else self._byte()
        self._grow(count)
        return tuple(self._value(depth + 1) for _ in range(count))

    def _plain(self, kind: str, *, raw: bool) -> Any:
        simple = {"N": None, "T": True, "F": False, ".": Ellipsis}
        if kind in simple:
            return simple[kind]
        if kind == "i":
            return struct.unpack("<i", self._bytes(4))[0]
        if kind == "g":
            return struct.unpack("<d", self._bytes(8))[0]
        if kind == "l":
            return self._long()
        if kind == ":" and self._layout == "3.11":  # from Python 3.14 on
            return slice(*(self._value(_MAX_DEPTH) for _ in range(3)))
        if kind in "zZ":
            return self._text(self._byte(), "ascii")
        if kind in "aA":
            return self._text(self._number(), "ascii")
        if kind == "R" and self._layout == "2.7":
            index = self._number()
            if index >= len(self._interned):
                raise UnknownCodeError(UNREADABLE)
            return self._interned[index]
        if kind in "ut" or (kind == "s" and self._layout == "2.7" and not raw):
            text = self._text(self._number(), "latin-1" if kind == "s" else "utf-8")
            if kind == "t":
                self._interned.append(text)
            return text
        if kind == "s":
            return self._bytes(self._number())
        raise UnknownCodeError("it contains functions or constants that no simple expression has")

    def _text(self, size: int, encoding: str) -> str:
        try:
            return self._bytes(size).decode(encoding)
        except UnicodeDecodeError as error:
            raise UnknownCodeError(UNREADABLE) from error

    def _long(self) -> int:
        (count,) = struct.unpack("<i", self._bytes(4))
        if abs(count) > _MAX_DIGITS:
            raise UnknownCodeError("it contains a huge integer")
        digits = struct.unpack(f"<{abs(count)}H", self._bytes(2 * abs(count)))
        value = sum(digit << 15 * index for index, digit in enumerate(digits))
        return int(-value if count < 0 else value)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > _MAX_SIZE:
            raise UnknownCodeError(f"it contains over {_MAX_SIZE:,} constants")

    def _number(self) -> int:
        (number,) = struct.unpack("<I", self._bytes(4))
        return int(number)

    def _byte(self) -> int:
        return int(self._bytes(1)[0])

    def _bytes(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise UnknownCodeError("its bytecode is truncated")
        self._at += size
        return data
