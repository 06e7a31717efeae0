"""Cut one signature out of a SavedModel: a plain graph without functions, variables and anything that acts.

Each call of a function is replaced by the function's nodes, so the names of nodes are paths as Keras has them:
``model/conv1/Conv2D``. Every node of every function that the signature calls must be in ``operations``, also if its
result is not used: TensorFlow would run a function's acting nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xxdeploy.convert.user_model.quarantine.saved_model.nodes import Library, Node, in_order, source_of
from xxdeploy.convert.user_model.quarantine.saved_model.operations import (
    ALLOWED,
    CALLS,
    IGNORED,
    PASSING,
    VARIABLES,
    reason_for,
)
from xxdeploy.convert.user_model.quarantine.saved_model.scope import Scope

MAX_NODES = 50_000
"""Nodes after all calls are replaced. MobileNetV2 of Keras 3 has 526."""
_MAX_OUTPUTS = 1000


class ForbiddenOperationError(Exception):
    """The signature uses an operation that is not allowed: its name, the path of the node, and the reason."""

    def __init__(self, operation: str, place: str, reason: str) -> None:
        super().__init__(f"{operation} {reason}")
        self.operation, self.place, self.reason = operation, place, reason


@dataclass(frozen=True, slots=True)
class Value:
    """The meaning of a reference: ``kind`` is ``node``, ``input``, ``variable`` (a handle) or ``read`` (its value).

    ``name`` is that of the flat node or of the variable's node; ``index`` is the output of the node, or the place of
    the input.
    """

    kind: str
    name: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class FlatNode:
    """A node of the graph without functions, under a name that no other has, and the values that it reads."""

    name: str
    node: Node
    inputs: tuple[Value, ...]


class Inliner:
    """Walks through the main graph and the functions that it calls, and collects the nodes that compute.

    ``inputs`` maps the node of each input of the signature to its place. After :meth:`outputs`, ``flat`` has the nodes,
    each after its inputs, and ``variables`` the nodes of the variables.
    """

    def __init__(self, nodes: Mapping[str, Node], library: Library, inputs: Mapping[str, int]) -> None:
        self.flat: dict[str, FlatNode] = {}
        self.variables: dict[str, Node] = {}
        self._main: Scope[Value] = Scope(nodes)
        self._library, self._inputs = library, inputs
        self._visited = 0

    def outputs(self, references: Sequence[str]) -> list[Value]:
        """Return the values of outputs of the main graph, after adding all nodes that they need.

        Raises
        ------
        ForbiddenOperationError
            An operation is not allowed.
        ValueError
            The graph is damaged, has a circle, or more than ``MAX_NODES`` nodes.
        """
        self._walk(self._main, [source_of(reference) for reference in references])
        return [self._main.of(reference) for reference in references]

    def _walk(self, scope: Scope[Value], wanted: Sequence[str]) -> None:
        for node in in_order(scope.nodes, wanted):
            if scope is self._main and node.name in self._inputs:
                scope.results[node.name] = [Value("input", node.name, self._inputs[node.name])]
            else:
                scope.results[node.name] = self._results(node, scope)

    def _results(self, node: Node, scope: Scope[Value]) -> Sequence[Value]:
        """Check a node, add it if it computes, and return its results."""
        self._visited += 1
        if self._visited > 2 * MAX_NODES:
            raise ValueError(f"the signature has more than {2 * MAX_NODES:,} nodes")
        operation, place = node.operation, scope.path + node.name
        if operation not in ALLOWED:
            raise ForbiddenOperationError(operation, place, reason_for(operation))
        if operation in self._library:
            raise ForbiddenOperationError(operation, place, "is also the name of a function in the file")
        if operation not in CALLS and node.names_function():
            raise ForbiddenOperationError(operation, place, "names a function, and only a call should")
        if operation in IGNORED:
            return []
        if operation in VARIABLES:
            self.variables[node.name] = node
            return [Value("variable" if operation == "VarHandleOp" else "read", node.name)]
        inputs = tuple(scope.of(reference) for reference in node.inputs)
        if operation in CALLS:
            function = self._library.open(node.function())
            inner = scope.call(node, function, inputs)
            self._walk(inner, list(function.nodes))
            return [inner.of(result) for result in function.results]
        if operation == "ReadVariableOp":
            if len(inputs) != 1 or inputs[0].kind != "variable":
                raise ForbiddenOperationError(operation, place, "reads something that is no variable of the model")
            return [Value("read", inputs[0].name)]
        if operation in PASSING:
            return inputs if operation == "IdentityN" else inputs[:1]
        if operation == "PlaceholderWithDefault":
            return inputs
        if operation == "Placeholder":
            raise ForbiddenOperationError(operation, place, "is an input that the signature does not name")
        return self._added(node, place, inputs)

    def _added(self, node: Node, place: str, inputs: tuple[Value, ...]) -> Sequence[Value]:
        if any(value.kind == "variable" for value in inputs):
            raise ForbiddenOperationError(node.operation, place, "changes or passes on a variable")
        name, count = place, 1
        while name in self.flat:
            count += 1
            name = f"{place}_{count}"
        if len(self.flat) >= MAX_NODES:
            raise ValueError(f"the signature has more than {MAX_NODES:,} nodes")
        self.flat[name] = FlatNode(name, node, inputs)
        return _Outputs(name)


class _Outputs(Sequence[Value]):
    """The outputs of a node that computes; TensorFlow knows how many there are when it gets the graph."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __len__(self) -> int:
        return _MAX_OUTPUTS

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return Value("node", self._name, index)


def needed(flat: Mapping[str, FlatNode], outputs: Sequence[Value]) -> list[FlatNode]:
    """Return the nodes that the outputs need, each after its inputs."""
    wanted = {value.name for value in outputs if value.kind == "node"}
    for node in reversed(list(flat.values())):
        if node.name in wanted:
            wanted.update(value.name for value in node.inputs if value.kind == "node")
    return [node for node in flat.values() if node.name in wanted]
