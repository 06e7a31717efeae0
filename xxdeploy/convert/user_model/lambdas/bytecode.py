"""The instructions of CPython 2.7 and 3.5 to 3.14 that an expression needs, in one set of names for all versions.

The numbers are those of ``opcode.py`` of each version. Instructions that jump, loop, build functions, classes or sets,
or store into objects are not in the tables, so code that contains them is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xxdeploy.convert.user_model.lambdas.marshal_code import UNREADABLE, Code, Layout, UnknownCodeError

_WORDS = """BINARY_POWER 19, BINARY_MULTIPLY 20, BINARY_MODULO 22, BINARY_ADD 23, BINARY_SUBTRACT 24,
BINARY_FLOOR_DIVIDE 26, BINARY_TRUE_DIVIDE 27, INPLACE_FLOOR_DIVIDE 28, INPLACE_TRUE_DIVIDE 29, INPLACE_ADD 55,
INPLACE_SUBTRACT 56, INPLACE_MULTIPLY 57, INPLACE_MODULO 59, INPLACE_POWER 67, """
_TO_310 = """POP_TOP 1, NOP 9, UNARY_POSITIVE 10, UNARY_NEGATIVE 11, BINARY_SUBSCR 25, RETURN_VALUE 83,
UNPACK_SEQUENCE 92, LOAD_CONST 100, BUILD_TUPLE 102, BUILD_LIST 103, LOAD_ATTR 106, IMPORT_NAME 108, IMPORT_FROM 109,
LOAD_GLOBAL 116, LOAD_FAST 124, STORE_FAST 125, CALL_FUNCTION 131, BUILD_SLICE 133, LOAD_DEREF 136, """
_36 = f"{_WORDS}{_TO_310}LIST_TO_TUPLE 82, CALL_FUNCTION_KW 141, EXTENDED_ARG 144, LOAD_ATTR 160, CALL_FUNCTION 161, "
_TABLES = {
    "2.7": f"{_WORDS}{_TO_310}BINARY_DIVIDE 21, INPLACE_DIVIDE 58, EXTENDED_ARG 145",
    "3.5": f"{_WORDS}{_TO_310}EXTENDED_ARG 144",
    "3.6": f"{_36}LIST_EXTEND 162",
    "3.11": """POP_TOP 1, NOP 2, NOP 9, UNARY_POSITIVE 10, UNARY_NEGATIVE 11, BINARY_SUBSCR 25+4, RETURN_VALUE 83,
LOAD_CONST 100, BUILD_TUPLE 102, BUILD_LIST 103, LOAD_ATTR 106+4, IMPORT_NAME 108, IMPORT_FROM 109, LOAD_GLOBAL 116+5,
BINARY_OP 122+1, LOAD_FAST 124, STORE_FAST 125, BUILD_SLICE 133, LOAD_DEREF 137, NOP 149, NOP 151, LIST_EXTEND 162,
NOP 166+1, CALL_FUNCTION 171+4, KW_NAMES 172, LOAD_ATTR 160+10, UNPACK_SEQUENCE 92+1, EXTENDED_ARG 144,
LIST_TO_TUPLE 82""",
    "3.12": """POP_TOP 1, NOP 2, NOP 9, UNARY_NEGATIVE 11, BINARY_SUBSCR 25+1, BINARY_SLICE 26, RETURN_VALUE 83,
RETURN_CONST 121, LOAD_CONST 100, BUILD_TUPLE 102, BUILD_LIST 103, LOAD_ATTR 106+9, IMPORT_NAME 108, IMPORT_FROM 109,
LOAD_GLOBAL 116+4, BINARY_OP 122+1, LOAD_FAST 124, STORE_FAST 125, LOAD_FAST 127, BUILD_SLICE 133, LOAD_DEREF 137,
NOP 149, NOP 151, LIST_EXTEND 162, CALL_FUNCTION 171+3, KW_NAMES 172, UNPACK_SEQUENCE 92+1, EXTENDED_ARG 144,
CALL_INTRINSIC_1 173""",
    "3.13": """POP_TOP 32, NOP 34, NOP 30, UNARY_NEGATIVE 42, BINARY_SUBSCR 5+1, BINARY_SLICE 4, RETURN_VALUE 36,
RETURN_CONST 103, LOAD_CONST 83, BUILD_TUPLE 52, BUILD_LIST 47, LOAD_ATTR 82+9, IMPORT_NAME 75, IMPORT_FROM 74,
LOAD_GLOBAL 91+4, BINARY_OP 45+1, LOAD_FAST 85, LOAD_FAST 87, LOAD_FAST_LOAD_FAST 88, STORE_FAST 110,
STORE_FAST_LOAD_FAST 111, STORE_FAST_STORE_FAST 112, BUILD_SLICE 50, LOAD_DEREF 84, NOP 62, NOP 149, LIST_EXTEND 81,
CALL_FUNCTION 53+3, CALL_FUNCTION_KW 57, UNPACK_SEQUENCE 117+1, EXTENDED_ARG 71, CALL_INTRINSIC_1 55""",
    "3.14": """POP_TOP 31, NOP 33, NOP 27, UNARY_NEGATIVE 41, BINARY_SLICE 1, RETURN_VALUE 35, LOAD_CONST 82,
LOAD_SMALL_INT 94, BUILD_TUPLE 51, BUILD_LIST 46, LOAD_ATTR 80+9, IMPORT_NAME 73, IMPORT_FROM 72, LOAD_GLOBAL 92+4,
BINARY_OP 44+5, LOAD_FAST 84, LOAD_FAST 88, LOAD_FAST 86, LOAD_FAST_LOAD_FAST 89, LOAD_FAST_LOAD_FAST 87,
STORE_FAST 112, STORE_FAST_LOAD_FAST 113, STORE_FAST_STORE_FAST 114, BUILD_SLICE 49, LOAD_DEREF 83, NOP 60, NOP 128,
LIST_EXTEND 79, CALL_FUNCTION 52+3, CALL_FUNCTION_KW 55+3, UNPACK_SEQUENCE 119+1, EXTENDED_ARG 69,
CALL_INTRINSIC_1 53""",
}
"""``NAME number+words``: the words of inline caches that follow it. ``NOP`` stands for what an expression can ignore:
marks of a call (``PUSH_NULL``, ``PRECALL``) and of a start (``RESUME``, ``COPY_FREE_VARS``)."""
_VERSIONS: dict[Layout, tuple[str, ...]] = {
    "2.7": ("2.7",),
    "3.5": ("3.5", "3.6"),
    "3.8": ("3.6",),
    "3.11": ("3.11", "3.12", "3.13", "3.14"),
}
_OPERATORS = ("+", "&", "//", "<<", "@", "*", "%", "|", "**", ">>", "-", "/", "^")
"""By the argument of ``BINARY_OP``; 13 more is the operator in place, 26 is a subscript (from 3.14 on)."""
_BINARY = {
    "ADD": "+",
    "SUBTRACT": "-",
    "MULTIPLY": "*",
    "TRUE_DIVIDE": "/",
    "DIVIDE": "/",
    "FLOOR_DIVIDE": "//",
    "MODULO": "%",
    "POWER": "**",
}
_LIST_TO_TUPLE = 6  # of CALL_INTRINSIC_1
_MAX_INSTRUCTIONS = 1000
_HAS_ARGUMENT = 90  # up to Python 3.12; earlier opcodes of 2.7 and 3.5 are one byte long


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of the stack machine in ``expression``: its ``name`` and a number, name, constant or operator."""

    name: str
    value: Any = None


def instructions(code: Code) -> Iterator[tuple[str, tuple[Instruction, ...]]]:
    """Yield each version of Python in which the bytes make sense, with its instructions."""
    for version in _VERSIONS[code.layout]:
        try:
            yield version, tuple(_named(code, version))
        except UnknownCodeError:
            continue


def _table(version: str) -> dict[int, tuple[str, int]]:
    table = {}
    for entry in _TABLES[version].split(","):
        if entry.strip():
            name, number = entry.split()
            opcode, _, words = number.partition("+")
            table[int(opcode)] = name, int(words or 0)
    return table


def _words(data: bytes, version: str) -> Iterator[tuple[int, int]]:
    """Yield each opcode with its argument; up to 3.5 an instruction has one or three bytes, later two."""
    at, wide = 0, version in ("2.7", "3.5")
    while at < len(data):
        size = 2 if not wide else 3 if data[at] >= _HAS_ARGUMENT else 1
        if at + size > len(data):
            raise UnknownCodeError("its bytecode is truncated")
        yield data[at], int.from_bytes(data[at + 1 : at + size], "little")
        at += size


def _named(code: Code, version: str) -> Iterator[Instruction]:
    table, caches, extended, count = _table(version), 0, 0, 0
    for opcode, argument in _words(code.instructions, version):
        count += 1
        if caches:
            caches -= 1
            if opcode:
                raise UnknownCodeError(UNREADABLE)
            continue
        if opcode not in table or count > _MAX_INSTRUCTIONS:
            raise UnknownCodeError("it contains more than an expression")
        name, caches = table[opcode]
        whole = extended | argument
        if name == "EXTENDED_ARG":
            extended = whole << (16 if version in ("2.7", "3.5") else 8)
            if extended >= 1 << 24:
                raise UnknownCodeError(UNREADABLE)
            continue
        extended = 0
        try:
            yield from _translated(name, whole, code, version)
        except IndexError as error:
            raise UnknownCodeError(UNREADABLE) from error


def _translated(name: str, argument: int, code: Code, version: str) -> Iterator[Instruction]:
    """Yield an instruction with the constant or name that its argument stands for."""
    if name in ("LOAD_CONST", "RETURN_CONST", "KW_NAMES"):
        yield Instruction("KW_NAMES" if name == "KW_NAMES" else "LOAD_CONST", code.constants[argument])
        if name == "RETURN_CONST":
            yield Instruction("RETURN_VALUE")
    elif name == "LOAD_SMALL_INT":
        yield Instruction("LOAD_CONST", argument)
    elif name in ("LOAD_GLOBAL", "IMPORT_NAME", "IMPORT_FROM", "LOAD_ATTR"):
        flagged = (name == "LOAD_GLOBAL" and code.layout == "3.11") or (
            name == "LOAD_ATTR" and version in ("3.12", "3.13", "3.14")
        )
        yield Instruction(name, code.names[argument >> 1 if flagged else argument])
    elif "_FAST_" in name:  # two in one: four bits each
        first, second = name.split("_FAST_")[0], name.removesuffix("_FAST").rpartition("_")[2]
        yield Instruction(f"{first}_FAST", code.variables[argument >> 4])
        yield Instruction(f"{second}_FAST", code.variables[argument & 15])
    elif name in ("LOAD_FAST", "STORE_FAST"):
        yield Instruction(name, code.variables[argument])
    elif name == "LOAD_DEREF":
        yield Instruction(name, code.captured[argument])
    elif name == "BINARY_OP" and argument == 2 * len(_OPERATORS):
        yield Instruction("BINARY_SUBSCR")
    elif name == "BINARY_OP":
        yield Instruction("BINARY", _OPERATORS[argument % len(_OPERATORS)])
    elif name.partition("_")[0] in ("BINARY", "INPLACE") and name.partition("_")[2] in _BINARY:
        old = name.endswith("_DIVIDE") and name.count("_") == 1
        yield Instruction("BINARY", "old /" if old else _BINARY[name.partition("_")[2]])
    elif name == "CALL_FUNCTION" and version in ("2.7", "3.5"):
        yield Instruction("CALL_PAIRS", (argument & 255, argument >> 8))
    elif name == "CALL_INTRINSIC_1":
        if argument != _LIST_TO_TUPLE:
            raise UnknownCodeError("it contains more than an expression")
        yield Instruction("LIST_TO_TUPLE")
    elif name != "NOP":
        yield Instruction(name, argument)
