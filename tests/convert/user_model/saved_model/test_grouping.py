from __future__ import annotations

import random

import numpy as np

from xxdeploy.convert.user_model.saved_model.grouping import parts_of
from xxdeploy.convert.user_model.saved_model.program import Operation, Program, Ref


def operation(path: str, *inputs: Ref) -> Operation:
    return Operation(path, "AddV2", inputs, {})


IMAGE, WEIGHT = Ref("input", 0), Ref("weight", 0)


def program(*operations: Operation, outputs: tuple[Ref, ...] | None = None) -> Program:
    last = (Ref("result", len(operations) - 1),)
    return Program(operations, outputs or last, 1, ((2,),), (np.zeros(2, np.float32),))


def test_operations_of_one_name_become_one_part() -> None:
    graph = program(
        operation("a", IMAGE, WEIGHT), operation("a", Ref("result", 0), WEIGHT), operation("b", Ref("result", 1), IMAGE)
    )
    first, second = parts_of(graph, ["a", "a", "b"], ())
    assert (first.name, first.reads, first.gives, first.weights) == ("a", (IMAGE,), (Ref("result", 1),), (0,))
    assert (second.name, second.reads, second.weights) == ("b", (Ref("result", 1), IMAGE), ())
    assert second.program.operations[0].inputs == (Ref("input", 0), Ref("input", 1))


def test_repeated_operations_go_to_each_part_that_needs_them() -> None:
    half = operation("half", WEIGHT, WEIGHT)
    graph = program(half, operation("a", IMAGE, Ref("result", 0)), operation("b", Ref("result", 1), Ref("result", 0)))
    parts = parts_of(graph, ["half", "a", "b"], {0})
    assert [part.name for part in parts] == ["a", "b"]
    assert [len(part.program.operations) for part in parts] == [2, 2]
    assert [part.weights for part in parts] == [(0,), (0,)]


def test_a_name_that_would_form_a_circle_is_cut_in_two() -> None:
    graph = program(
        operation("a", IMAGE, IMAGE), operation("b", Ref("result", 0), IMAGE), operation("a", Ref("result", 1), IMAGE)
    )
    assert [part.name for part in parts_of(graph, ["a", "b", "a"], ())] == ["a", "b", "a_part_2"]


def test_random_graphs_keep_their_order() -> None:
    draw = random.Random(0)
    for _ in range(50):
        operations: list[Operation] = []
        for index in range(30):
            sources = [IMAGE, WEIGHT, *(Ref("result", place) for place in range(index))]
            operations.append(operation(str(index), draw.choice([*sources[-6:], IMAGE]), draw.choice(sources)))
        graph = program(*operations)
        names = [draw.choice("abcde") for _ in operations]
        repeated = {index for index, late in enumerate(graph.depends_on_input()) if not late}
        if len(operations) - 1 in repeated:
            continue
        known: set[Ref] = {IMAGE}
        for part in parts_of(graph, names, repeated):
            assert set(part.reads) <= known
            known |= set(part.gives)
        assert set(graph.outputs) <= known
