"""The nodes and functions of a ``GraphDef``, opened when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from xxdeploy.convert.user_model.quarantine.saved_model import message
from xxdeploy.convert.user_model.quarantine.saved_model.message import Fields

MAX_FUNCTIONS = 100_000


@dataclass(frozen=True, slots=True)
class Node:
    """One node: ``inputs`` name outputs of others, ``controls`` nodes that run before it; attributes are unread."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    controls: tuple[str, ...]
    attributes: dict[str, memoryview]

    def attribute(self, name: str) -> Fields:
        """Return the fields of an ``AttrValue``; empty if the node has none of this name."""
        return message.read(self.attributes.get(name, memoryview(b"")))

    def type(self, name: str) -> int:
        """Return the number of the ``tf.DType`` in an attribute, 0 without it."""
        return message.integer(self.attribute(name), 6)

    def function(self) -> str:
        """Return the function that a call names."""
        return message.text(message.inner(self.attribute("f"), 10), 1)

    def names_function(self) -> bool:
        """Tell whether any attribute names a function, which TensorFlow could call."""
        for value in self.attributes.values():
            fields = message.read(value)
            if 10 in fields or (1 in fields and 9 in message.inner(fields, 1)):
                return True
        return False


def node_from(view: memoryview) -> Node:
    """Read a ``NodeDef``."""
    fields = message.read(view)
    inputs = message.texts(fields, 3)
    return Node(
        message.text(fields, 1),
        message.text(fields, 2),
        tuple(name for name in inputs if not name.startswith("^")),
        tuple(name[1:] for name in inputs if name.startswith("^")),
        {name: value for name, value in message.mapping(fields, 5).items() if not name.startswith("_")},
    )


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the library: its arguments, and the reference ``node:output:index`` of each of its results."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    nodes: dict[str, Node]


class Library:
    """The functions of a graph by name, each opened when it is first called."""

    def __init__(self, views: Iterable[memoryview]) -> None:
        self._views: dict[str, memoryview] = {}
        self._opened: dict[str, Function] = {}
        for view in views:
            name = _function_name(view)
            if name in self._views:
                raise ValueError(f"two functions are called {name!r}")
            self._views[name] = view

    def __contains__(self, name: str) -> bool:
        return name in self._views

    def open(self, name: str) -> Function:
        """Return a function. ``ValueError``: there is none of this name, or it is damaged."""
        if name not in self._opened:
            if name not in self._views:
                raise ValueError(f"it calls the function {name[:80]!r}, which it does not have")
            self._opened[name] = _function_from(self._views[name])
        return self._opened[name]


def _function_name(view: memoryview) -> str:
    """Return the name of a ``FunctionDef`` without reading its nodes one by one."""
    return message.text(message.inner(message.read(view), 1), 1)


def _function_from(view: memoryview) -> Function:
    fields = message.read(view)
    signature = message.inner(fields, 1)
    arguments, results = (
        [message.read(value) for value in signature.get(number, ())]  # ArgDef
        for number in (2, 3)
    )
    for argument in (*arguments, *results):
        if argument.get(5) or argument.get(6):
            raise ValueError("a function takes or returns a list of tensors, which Keras does not write")
    returned = {name: bytes(value).decode() for name, value in message.mapping(fields, 4).items()}
    names = [message.text(result, 1) for result in results]
    if any(name not in returned for name in names):
        raise ValueError("a function does not compute its result")
    return Function(
        message.text(signature, 1),
        tuple(message.text(argument, 1) for argument in arguments),
        tuple(returned[name] for name in names),
        by_name(fields.get(3, ())),
    )


def by_name(views: Iterable[memoryview]) -> dict[str, Node]:
    """Return nodes by their names. ``ValueError``: two have one name."""
    nodes: dict[str, Node] = {}
    for view in views:
        node = node_from(view)
        if node.name in nodes:
            raise ValueError(f"two nodes are called {node.name[:80]!r}")
        nodes[node.name] = node
    return nodes


def in_order(nodes: Mapping[str, Node], wanted: Iterable[str]) -> Iterator[Node]:
    """Yield the ``wanted`` nodes and those that they read or wait for, each after these.

    ``ValueError``: they form a circle.
    """
    done: set[str] = set()
    begun: set[str] = set()
    for first in wanted:
        stack = [(first, False)]
        while stack:
            name, is_ready = stack.pop()
            if name in done or name not in nodes:  # an argument of a function is no node
                continue
            node = nodes[name]
            if is_ready:
                done.add(name)
                yield node
                continue
            if name in begun:
                raise ValueError(f"the node {name[:80]!r} needs its own result")
            begun.add(name)
            stack.append((name, True))
            others = [*map(source_of, node.inputs), *node.controls]
            stack.extend((other, False) for other in reversed(others) if other not in done)


def source_of(reference: str) -> str:
    """Return the node (or argument) in ``node``, ``node:1`` or ``node:output:1``."""
    return reference.partition(":")[0]
