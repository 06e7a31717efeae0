"""The instructions of each version of Python are read as the steps of one machine."""

from __future__ import annotations

import pytest
from lambda_sources import bytecodes
from old_code import code_of_2_7, code_of_3_5

from xxdeploy.convert.user_model.lambdas.bytecode import Instruction, instructions
from xxdeploy.convert.user_model.lambdas.marshal_code import read_code

SCALE = [
    Instruction("LOAD_FAST", "x"),
    Instruction("LOAD_CONST", 255),
    Instruction("BINARY", "/"),
    Instruction("RETURN_VALUE"),
]


def steps(data: bytes) -> dict[str, list[Instruction]]:
    """The instructions by version, without the unused arguments of instructions that have none."""
    (code,) = read_code(data)
    return {
        version: [Instruction(step.name, step.value) if step.name != "RETURN_VALUE" else SCALE[-1] for step in found]
        for version, found in instructions(code)
    }


@pytest.mark.parametrize(
    ("version", "read_as"), [("3.10.2", "3.6"), ("3.12.1", "3.12"), ("3.13.2", "3.13"), ("3.14.2", "3.14")]
)
def test_an_expression_of_each_version(version: str, read_as: str) -> None:
    assert steps(bytecodes("scale")[version])[read_as] == SCALE


def test_this_version() -> None:
    assert SCALE in steps(bytecodes("scale")["this"]).values()


def test_instructions_of_one_and_three_bytes() -> None:
    """LOAD_FAST 0, LOAD_CONST 1, BINARY_TRUE_DIVIDE, RETURN_VALUE; in 3.6 and 3.7 each has two bytes."""
    assert steps(code_of_3_5("7c 00 00 64 01 00 1b 53", (None, 255))) == {"3.5": SCALE}
    assert steps(code_of_3_5("7c 00 64 01 1b 00 53 00", (None, 255))) == {"3.6": SCALE}
    assert steps(code_of_2_7("7c 00 00 64 01 00 1b 53", (None, 255))) == {"2.7": SCALE}


def test_arguments_beyond_a_byte() -> None:
    """EXTENDED_ARG 1, LOAD_CONST 0: constant 256."""
    constants = (*range(250), 0.5, 0.5, 0.5, 0.5, 0.5)
    assert not steps(code_of_3_5("90 01 64 00 53 00", constants))  # there are only 255
    assert steps(code_of_3_5("90 00 64 03 53 00", constants))["3.6"][0] == Instruction("LOAD_CONST", 3)


@pytest.mark.parametrize(
    "code",
    [
        "7c 00",  # ends without RETURN_VALUE, which is the machine's to say
        "72 04 53 00",  # POP_JUMP_IF_FALSE
        "84 00 53 00",  # MAKE_FUNCTION
        "71 00",  # JUMP_ABSOLUTE: a loop
        "7c 63 53 00",  # variable 99
        "64 63 53 00",  # constant 99
        "74 63 53 00",  # name 99
        "ff ff",
        "90 ff 90 ff 90 ff 64 ff",
    ],
)
def test_what_no_expression_has(code: str) -> None:
    found = steps(code_of_3_5(code, (None,)))
    assert found in ({}, {"3.6": [SCALE[0]]})


def test_too_many_instructions() -> None:
    assert not steps(code_of_3_5("09 00" * 1001 + "53 00", (None,)))
