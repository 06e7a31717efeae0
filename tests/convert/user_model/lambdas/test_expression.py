"""Functions become the same tree in each version of Python; unknown expressions are refused with a reason."""

from __future__ import annotations

import base64
import marshal

import pytest
from lambda_sources import PAIRS, REFUSED, SOURCES, bytecodes
from old_code import code_of_2_7, code_of_3_5

from xxdeploy.convert.user_model.lambdas.expression import Function, expression
from xxdeploy.convert.user_model.lambdas.marshal_code import UnknownCodeError
from xxdeploy.convert.user_model.lambdas.replace import in_words

PUBLISHED = (
    "4wEAAAAAAAAAAAAAAAEAAAACAAAAQwAAAHMMAAAAfABkARMAfAAXAFMAKQJO6QIAAACpACkB2gF4cgIAAAByAgAAAHpOL3Zhci9mb2xkZXJzL2d0"
    "L3NnM3Y4cmQxM2w1Mmp4OTFtZmJnemJmYzAwMDBnbi9UL2lweWtlcm5lbF8xNTU3MS8yMTc2NzAzOTE5LnB52gg8bGFtYmRhPggAAADzAAAAAA=="
)
"""A Lambda layer in a public model file, by Python 3.8 or 3.9."""


@pytest.mark.parametrize("name", [*SOURCES, *PAIRS])
def test_each_version_of_python_gives_the_same_tree(name: str) -> None:
    tensors = 2 if name in PAIRS else 0
    trees = [expression(Function(data, tensors=tensors)) for data in bytecodes(name).values()]
    assert len(trees) == 5
    assert all(tree == trees[0] for tree in trees)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_known_expression_is_refused_in_each_version(name: str) -> None:
    for data in bytecodes(name).values():
        with pytest.raises(UnknownCodeError, match=REFUSED[name][1]):
            expression(Function(data))


def test_a_file_that_somebody_published() -> None:
    assert in_words(expression(Function(base64.b64decode(PUBLISHED)))) == "(x ** 2) + x"


def test_python_2_divides_numbers_as_it_did() -> None:
    """LOAD_FAST x, LOAD_CONST 1, LOAD_CONST 2, BINARY_DIVIDE, BINARY_MULTIPLY: x * (3 / 2) is x * 1."""
    assert in_words(expression(Function(code_of_2_7("7c 00 00 64 01 00 64 02 00 15 14 53", (None, 3, 2))))) == "x * 1"
    assert in_words(expression(Function(code_of_2_7("7c 00 00 64 02 00 15 53", (None, 3, 2))))) == "x / 2"


def test_calls_of_old_versions() -> None:
    """K.mean(x, axis=1): the names of keywords are on the stack with their values, or follow in a tuple."""
    pairs = "74 00 00 6a 01 00 7c 00 00 64 01 00 64 02 00 83 01 01 53"  # 2.7 and 3.5: CALL_FUNCTION 1 + 256
    names = "74 00 6a 01 7c 00 64 02 64 03 8d 02 53 00"  # 3.6: CALL_FUNCTION_KW 2
    method = "74 00 a0 01 7c 00 64 02 a1 02 53 00"  # 3.7: LOAD_METHOD, CALL_METHOD 2
    for data in (
        code_of_2_7(pairs, (None, "axis", 1), ("K", "mean")),
        code_of_3_5(pairs, (None, "axis", 1), ("K", "mean")),
        code_of_3_5(names, (None, "axis", 1, ("axis",)), ("K", "mean")),
        code_of_3_5(method, (None, "axis", 1), ("K", "mean")),
    ):
        assert in_words(expression(Function(data))) == "mean(x, axis=1, keepdims=False)"


def test_captured_numbers_defaults_and_arguments() -> None:
    scale, shift = 4.0, [1.0, 2.0]
    captured = marshal.dumps((lambda x: x / scale - shift).__code__)
    assert in_words(expression(Function(captured, closure=(4.0, [1.0, 2.0])))) == "(x / 4) - [1.0, 2.0]"
    with pytest.raises(UnknownCodeError, match="captured something else"):
        expression(Function(captured, closure=("os", [1.0])))
    with pytest.raises(UnknownCodeError, match="does not hold"):
        expression(Function(captured))
    given = marshal.dumps((lambda x, low, high=1, training=None: (x - low) / high).__code__)  # noqa: ARG005
    assert in_words(expression(Function(given, defaults=(1, None), arguments={"low": 3}))) == "(x - 3) / 1"
    with pytest.raises(UnknownCodeError, match="arguments low"):
        expression(Function(given, defaults=(1, None)))
    with pytest.raises(UnknownCodeError, match="rare kind"):
        expression(Function(marshal.dumps((lambda *x: x).__code__)))


def test_lists_that_double_are_refused() -> None:
    """BUILD_LIST 0, then LIST_EXTEND of the list with itself, again and again."""
    step = "7d 00 7c 00 7c 00 a2 01 "
    with pytest.raises(UnknownCodeError):
        expression(Function(code_of_3_5("64 01 64 01 67 02 " + step * 60 + "53 00", (None, 1))))


def test_squares_of_squares_are_refused() -> None:
    """x = x * x, twenty times: a tree of a million leaves."""
    with pytest.raises(UnknownCodeError, match="operations"):
        expression(Function(code_of_3_5("7c 00 7c 00 14 00 7d 00 " * 20 + "7c 00 53 00", (None,))))
