"""Find where the values of the variables are, from the nodes that restore them. Nothing is run.

TensorFlow's loaders for other languages run the node ``restore_op_name``: it reads tensors by their names
(``RestoreV2``) and assigns them to variables (``AssignVariableOp``), since TF 2 inside of a function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xxdeploy.convert.user_model.quarantine.saved_model import message
from xxdeploy.convert.user_model.quarantine.saved_model.nodes import Library, Node, in_order
from xxdeploy.convert.user_model.quarantine.saved_model.operations import CALLS, PASSING, VARIABLES
from xxdeploy.convert.user_model.quarantine.saved_model.scope import Scope

_MAX_NODES = 500_000
_STRING = 7
_ASSIGNMENTS = ("Assign", "AssignVariableOp")


@dataclass(frozen=True, slots=True)
class _Thing:
    """A variable's node, a stored tensor's name, or the texts of a constant; anything else is all None."""

    variable: str | None = None
    stored: str | None = None
    texts: tuple[str, ...] | None = None


_UNKNOWN = _Thing()


class Restore:
    """The stored name of each variable's node, ``names``, as the node ``restore`` of the main graph assigns them.

    ``ValueError``: the graph is damaged, or a variable gets two values.
    """

    def __init__(self, nodes: Mapping[str, Node], library: Library, restore: str) -> None:
        self.names: dict[str, str] = {}
        self._library = library
        self._visited = 0
        self._walk(Scope(nodes), [restore.partition(":")[0].removeprefix("^")])

    def _walk(self, scope: Scope[_Thing], wanted: Sequence[str]) -> None:
        for node in in_order(scope.nodes, wanted):
            self._visited += 1
            if self._visited > _MAX_NODES:
                raise ValueError(f"more than {_MAX_NODES:,} nodes restore its variables")
            scope.results[node.name] = self._results(node, scope)

    def _results(self, node: Node, scope: Scope[_Thing]) -> Sequence[_Thing]:
        operation = node.operation
        if operation in VARIABLES:
            return [_Thing(variable=node.name)]
        if operation == "Const":
            return [_constant(node)]
        inputs = [scope.of(reference) for reference in node.inputs] if operation in _READ else []
        if operation in CALLS:
            function = self._library.open(node.function())
            inner = scope.call(node, function, inputs)
            self._walk(inner, list(function.nodes))
            return [inner.of(result) for result in function.results]
        if operation == "RestoreV2" and len(inputs) == 3:
            names, slices = inputs[1].texts or (), inputs[2].texts or ()
            return [
                _Thing(stored=name) if not part else _UNKNOWN
                for name, part in zip(names, slices or ("",) * len(names), strict=False)
            ]
        if operation in _ASSIGNMENTS and len(inputs) >= 2:
            variable, stored = inputs[0].variable, inputs[1].stored
            if variable is not None and stored is not None and self.names.setdefault(variable, stored) != stored:
                raise ValueError(f"the variable {variable[:80]!r} gets two values")
            return [inputs[0]]
        if operation in PASSING:
            return inputs
        return _Anything()


_READ = CALLS | PASSING | {"RestoreV2", *_ASSIGNMENTS}


class _Anything(Sequence[_Thing]):
    """The outputs of a node that is of no interest."""

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return _UNKNOWN


def _constant(node: Node) -> _Thing:
    """Return the texts of a constant of texts."""
    if node.type("dtype") != _STRING:
        return _UNKNOWN
    tensor = message.inner(node.attribute("value"), 8)
    found = message.texts(tensor, 8)
    shape = message.shape_of(message.inner(tensor, 2)) or []
    if len(found) == 1 and len(shape) == 1 and shape[0] is not None and 1 < shape[0] <= _MAX_NODES:
        found *= shape[0]  # equal values, such as empty slices, are stored once
    return _Thing(texts=tuple(found))
