"""The values of references between nodes: ``node:1`` in the main graph, ``node:output:1`` inside of a function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from xxdeploy.convert.user_model.quarantine.saved_model.nodes import Function, Node
from xxdeploy.convert.user_model.quarantine.saved_model.operations import OUTPUTS

MAX_DEPTH = 60
"""Calls of functions inside of each other."""
_CALL_NAME = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Scope(Generic[Item]):
    """The main graph or one call of a function: its nodes, its arguments and the results that are known so far.

    ``path`` begins the names of its nodes; ``arguments`` is None for the main graph.
    """

    nodes: Mapping[str, Node]
    path: str = ""
    arguments: Mapping[str, Item] | None = None
    depth: int = 0
    results: dict[str, Sequence[Item]] = field(default_factory=dict)

    def of(self, reference: str) -> Item:
        """Return the value of a reference. ``ValueError``: it leads nowhere."""
        name, _, rest = reference.partition(":")
        if self.arguments is not None and name in self.arguments:
            return self.arguments[name]
        output, _, number = rest.partition(":") if self.arguments is not None else ("", "", rest)
        index = int(number) if number.isdigit() else 0
        node, known = self.nodes.get(name), self.results.get(name)
        if node is None or known is None:
            raise ValueError(f"{reference[:80]!r} names no node")
        outputs = OUTPUTS.get(node.operation)
        if outputs is not None and output:
            if output not in outputs:
                raise ValueError(f"{reference[:80]!r} names no output")
            index += outputs.index(output)
        if index >= len(known):
            raise ValueError(f"{reference[:80]!r} names no output")
        return known[index]

    def call(self, node: Node, function: Function, given: Sequence[Item]) -> Scope[Item]:
        """Return the scope of a function that ``node`` calls with ``given``. ``ValueError``: too deep, or no match."""
        if self.depth >= MAX_DEPTH:
            raise ValueError(f"its functions call each other more than {MAX_DEPTH} deep")
        if len(given) != len(function.arguments):
            raise ValueError(f"the function {function.name[:80]!r} is called with {len(given)} arguments")
        parts = [part for part in node.name.split("/") if not _CALL_NAME.fullmatch(part)]
        path = self.path + "".join(f"{part}/" for part in parts)
        return Scope(function.nodes, path, dict(zip(function.arguments, given, strict=True)), self.depth + 1)
