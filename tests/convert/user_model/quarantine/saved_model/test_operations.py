from __future__ import annotations

import pytest

from xxdeploy.convert.user_model.quarantine.saved_model.operations import ALLOWED, COMPUTING, OUTPUTS, reason_for
from xxdeploy.convert.user_model.saved_model import program

pytest.importorskip("tensorflow")


def test_computing_operations_have_no_state_and_take_and_give_numbers_only() -> None:
    for name in COMPUTING:
        definition = program._definition(name)
        assert not definition.is_stateful, name
        assert not any(attr.type in ("func", "list(func)") for attr in definition.attr), name
        assert not any(arg.type in (7, 20, 21) for arg in (*definition.input_arg, *definition.output_arg)), name


def test_the_outputs_of_operations_with_several_are_those_of_tensorflow() -> None:
    for name in COMPUTING:
        names = tuple(arg.name for arg in program._definition(name).output_arg)
        assert OUTPUTS.get(name, names[:1]) == names, name


def test_each_argument_has_its_name_in_raw_ops() -> None:
    assert program._renamed("Mean") == {"reduction_indices": "axis"}
    for name in COMPUTING:
        program._renamed(name)  # raises if the names do not match one to one


def test_no_operation_that_acts_is_allowed() -> None:
    for name in ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "Print", "While", "If", "AssignVariableOp", "_Recv"):
        assert name not in ALLOWED
        assert reason_for(name) != reason_for("Unknown")
