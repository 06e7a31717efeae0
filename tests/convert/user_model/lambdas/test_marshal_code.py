"""Code objects of each layout are read; hostile bytes are refused quickly, by one class of error."""

from __future__ import annotations

import inspect
import marshal
import random
import struct
import textwrap

import pytest
from lambda_sources import BYTECODE, SOURCES, bytecodes
from old_code import code_of_2_7, code_of_3_5

from xxdeploy.convert.user_model.lambdas.marshal_code import MAX_BYTES, UnknownCodeError, read_code

GOOD = marshal.dumps((lambda x: x / 255).__code__)


def constant(data: bytes) -> bytes:
    """A code object of Python 3.11 with ``data`` as its constants."""
    texts = b")\x00)\x01z\x01x" + b"s\x01\x00\x00\x00\x26" + b"z\x01f" * 3 + struct.pack("<I", 1) + b"s\0\0\0\0" * 2
    return b"c" + struct.pack("<5I", 1, 0, 0, 1, 3) + b"s\0\0\0\0" + data + texts


@pytest.mark.parametrize(
    ("layout", "data"),
    [
        ("2.7", code_of_2_7("64 01 00 53", (None, 1))),
        ("3.5", code_of_3_5("64 01 53 00", (None, 1))),
        ("3.8", bytecodes("scale")["3.10.2"]),
        ("3.11", bytecodes("scale")["3.14.2"]),
    ],
)
def test_each_layout_is_found(layout: str, data: bytes) -> None:
    (code,) = read_code(data)
    assert (code.layout, code.arguments, code.variables) == (layout, 1, ("x",))


def test_constants_have_their_values() -> None:
    values = (None, True, False, -3, 1 << 70, 0.1, "text", "тест", b"bytes", (1, (2.5, ())), ...)
    whole = (lambda x: x).__code__.replace(co_consts=values)
    assert read_code(marshal.dumps(whole))[0].constants == values


HOSTILE = {
    "nothing": b"",
    "more than any function has": GOOD + b"\x00" * MAX_BYTES,
    "a number": b"i\x01\x00\x00\x00",
    "a tuple of two billion": constant(b"(\xff\xff\xff\x7f"),
    "tuples nested deep": constant(b")\x01" * 10_000 + b"N"),
    "text of two billion bytes": constant(b"s\xff\xff\xff\x7f"),
    "a number of two billion digits": constant(b"l\xff\xff\xff\x7f"),
    "a tuple inside itself": constant(b"\xa9\x02Nr\x00\x00\x00\x00"),
    "a set": constant(b">\x01\x00\x00\x00N"),
    "a dictionary": constant(b"{0"),
    "a complex number": constant(b"y" + b"\0" * 16),
    "a reference to nothing": constant(b"r\x07\x00\x00\x00"),
    "bytes after the end": constant(b")\x00") + b"N",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused(name: str) -> None:
    with pytest.raises(UnknownCodeError):
        read_code(HOSTILE[name])


def test_the_frame_of_these_bytes_is_good() -> None:
    assert read_code(constant(b")\x01N"))[0].constants == (None,)


def test_references_that_double_are_refused() -> None:
    """Forty tuples that hold the tuple before them twice are 2**40 objects, if somebody walks through them."""
    doubled = b")" + bytes([41]) + b"\xa9\x02NN"
    for index in range(40):
        doubled += b"\xa9\x02" + (b"r" + struct.pack("<I", index)) * 2
    with pytest.raises(UnknownCodeError, match="constants"):
        read_code(constant(doubled))


def test_any_change_and_any_end_is_read_or_refused() -> None:
    rng = random.Random(1)
    samples = [GOOD, *(bytecodes(name)[version] for version in BYTECODE for name in list(SOURCES)[:4])]
    for data in samples:
        for end in range(len(data)):
            with pytest.raises(UnknownCodeError):
                read_code(data[:end])
        for _ in range(100):
            changed = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                changed[rng.randrange(len(data))] = rng.randrange(256)
            try:
                read_code(bytes(changed))
            except UnknownCodeError:
                continue


def test_functions_of_the_standard_library_are_no_exception() -> None:
    functions = [value for value in vars(textwrap).values() if inspect.isfunction(value)]
    assert functions
    for function in functions:
        try:
            read_code(marshal.dumps(function.__code__))
        except UnknownCodeError:
            continue
