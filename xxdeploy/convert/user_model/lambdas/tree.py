"""Expressions of tensors as trees: plain data that a configuration of Keras can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xxdeploy.convert.user_model.lambdas.marshal_code import UnknownCodeError

INPUT = "input"
SAME_NAME = frozenset(
    {"absolute", "add", "ceil", "clip", "concatenate", "cos", "depth_to_space", "divide", "elu", "exp", "expand_dims"}
    | {"flip", "floor", "floor_divide", "gelu", "leaky_relu", "log", "log1p", "log_softmax", "max", "maximum", "mean"}
    | {"min", "minimum", "mod", "multiply", "negative", "normalize", "pad", "power", "prod", "relu", "relu6", "reshape"}
    | {"round", "rsqrt", "selu", "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "softsign", "space_to_depth"}
    | {"sqrt", "square", "squeeze", "stack", "std", "subtract", "sum", "tanh", "transpose", "var"}
)
"""Operations with the name and the options of a function of ``keras.ops``."""
OPERATIONS = SAME_NAME | {INPUT, "getitem", "resize", "upsample", "rgb_to_grayscale"}
_MAX_NODES, _MAX_DEPTH, _MAX_NUMBERS = 200, 60, 256


@dataclass(frozen=True, slots=True)
class Node:
    """An operation on ``inputs``: nodes, numbers, or lists of numbers. ``input`` has the index of a tensor."""

    op: str
    inputs: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int = field(init=False, compare=False)
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        nodes = [value for value in self.inputs if isinstance(value, Node)]
        object.__setattr__(self, "size", 1 + sum(node.size for node in nodes))
        object.__setattr__(self, "depth", 1 + max((node.depth for node in nodes), default=0))
        if self.op not in OPERATIONS:
            raise UnknownCodeError(f"there is no operation {self.op[:40]}")
        if self.size > _MAX_NODES or self.depth > _MAX_DEPTH:
            raise UnknownCodeError(f"it has over {_MAX_NODES} operations")

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it."""
        yield self
        for value in self.inputs:
            if isinstance(value, Node):
                yield from value.walk()


def json_from_tree(value: Any) -> Any:
    """Return a node as ``{"op": ..., "inputs": [...], "options": {...}}``; numbers and lists as they are."""
    if not isinstance(value, Node):
        return list(value) if isinstance(value, tuple) else value
    return {"op": value.op, "inputs": [json_from_tree(item) for item in value.inputs], "options": dict(value.options)}


def tree_from_json(value: Any, depth: int = 0) -> Node:
    """Return the node that :func:`json_from_tree` wrote.

    Raises
    ------
    UnknownCodeError
        ``value`` is not such an object.
    """
    if not isinstance(value, dict) or value.keys() != {"op", "inputs", "options"} or depth > _MAX_DEPTH:
        raise UnknownCodeError("it is not an expression")
    op, inputs, options = value["op"], value["inputs"], value["options"]
    if not isinstance(op, str) or not isinstance(inputs, list) or not isinstance(options, dict):
        raise UnknownCodeError("it is not an expression")
    read: list[Any] = []
    for item in inputs:
        if isinstance(item, dict):
            read.append(tree_from_json(item, depth + 1))
        elif is_numbers(item):
            read.append(tuple(item) if isinstance(item, list) else item)
        else:
            raise UnknownCodeError("it is not an expression")
    return Node(op, tuple(read), options)


def is_number(value: Any) -> bool:
    """Tell whether ``value`` is an integer or a float, not a boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_numbers(value: Any) -> bool:
    """Tell whether ``value`` is a number, or a short list of numbers."""
    if isinstance(value, (list, tuple)):
        return 0 < len(value) <= _MAX_NUMBERS and all(is_number(item) for item in value)
    return is_number(value)


def binary(operator: str, left: Any, right: Any) -> Any:
    """Return ``left operator right`` of tensors and numbers."""
    names = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "//": "floor_divide", "%": "mod"}
    names |= {"**": "power", "old /": "divide"}
    if operator not in names:
        raise UnknownCodeError(f"it contains the operator {operator}")
    if not any(isinstance(value, Node) for value in (left, right)):
        return _folded(operator, left, right)
    return operation(names[operator], left, right)


def _folded(operator: str, left: Any, right: Any) -> Any:
    """Compute with two constants, as Python does; numbers stay small."""
    if not is_number(left) or not is_number(right):
        raise UnknownCodeError("it computes with constants that are no numbers")
    if operator == "old /":  # Python 2
        operator = "//" if isinstance(left, int) and isinstance(right, int) else "/"
    try:
        if operator == "**":
            value: Any = float(left) ** float(right)
        else:
            value = {
                "+": lambda: left + right,
                "-": lambda: left - right,
                "*": lambda: left * right,
                "/": lambda: left / right,
                "//": lambda: left // right,
                "%": lambda: left % right,
            }[operator]()
    except (ArithmeticError, ValueError) as error:
        raise UnknownCodeError("its constants cannot be computed") from error
    if not is_number(value) or not abs(value) < 1e30:
        raise UnknownCodeError("its constants cannot be computed")
    return value


def operation(op: str, *inputs: Any, **options: Any) -> Node:
    """Return a node; its inputs must be tensors and numbers."""
    for value in inputs:
        if not isinstance(value, Node) and not is_numbers(value):
            raise UnknownCodeError("it computes with other things than tensors and numbers")
    return Node(op, inputs, options)
