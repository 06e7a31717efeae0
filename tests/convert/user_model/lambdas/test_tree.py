"""Trees become JSON and come back; other data is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xxdeploy.convert.user_model.lambdas.marshal_code import UnknownCodeError
from xxdeploy.convert.user_model.lambdas.tree import INPUT, Node, binary, is_numbers, json_from_tree, tree_from_json

X = Node(INPUT, (), {"index": 0})


def test_a_tree_survives_json() -> None:
    tree = Node("subtract", (Node("clip", (X,), {"x_min": 0, "x_max": 1.5}), (1.0, 2.0)))
    assert tree_from_json(json.loads(json.dumps(json_from_tree(tree)))) == tree
    assert [node.op for node in tree.walk()] == ["subtract", "clip", "input"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"op": "exec", "inputs": [], "options": {}},
        {"op": "__class__", "inputs": [], "options": {}},
        {"op": "add", "inputs": ["text"], "options": {}},
        {"op": "add", "inputs": [[1] * 300], "options": {}},
        {"op": "add", "inputs": [True], "options": {}},
        {"op": "add", "inputs": [1]},
        {"op": 3, "inputs": [], "options": {}},
    ],
)
def test_what_is_no_tree(value: Any) -> None:
    with pytest.raises(UnknownCodeError):
        tree_from_json(value)


def test_deep_and_wide_trees_are_refused() -> None:
    deep: dict[str, Any] = {"op": "input", "inputs": [], "options": {"index": 0}}
    wide = deep
    for _ in range(100):
        deep = {"op": "negative", "inputs": [deep], "options": {}}
    for _ in range(10):
        wide = {"op": "add", "inputs": [wide, wide], "options": {}}
    for value in (deep, wide):
        with pytest.raises(UnknownCodeError):
            tree_from_json(value)


def test_numbers() -> None:
    assert is_numbers(1)
    assert is_numbers([1, 2.5])
    assert not is_numbers([])
    assert not is_numbers(True)
    assert not is_numbers(["1"])


def test_constants_are_computed_and_stay_small() -> None:
    assert binary("/", 1, 255) == 1 / 255
    assert binary("old /", 1, 255) == 0
    assert binary("old /", X, 255) == Node("divide", (X, 255))
    for operator, left, right in (("**", 9, 999), ("/", 1, 0), ("**", -1, 0.5), ("+", "a", "b"), ("@", X, X)):
        with pytest.raises(UnknownCodeError):
            binary(operator, left, right)
