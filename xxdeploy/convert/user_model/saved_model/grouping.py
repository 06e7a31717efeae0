"""Cut a program into one program for each layer, so that Keras has a graph of layers. Pure data.

Operations that read no input of the model (arithmetic with weights) or that compute shapes are repeated in each layer
that needs them. The others go to one layer each: a layer is a run of operations of one name in an order in which each
operation follows those that it reads, so the layers form no circle.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from xxdeploy.convert.user_model.saved_model.program import Operation, Program, Ref


@dataclass(frozen=True, slots=True)
class Part:
    """The program of one layer: ``reads`` are its inputs and ``gives`` its outputs, as values of the whole program.

    ``weights`` are the places of its weights in the whole program.
    """

    name: str
    program: Program
    reads: tuple[Ref, ...]
    gives: tuple[Ref, ...]
    weights: tuple[int, ...]


def parts_of(program: Program, names: Sequence[str], repeated: Collection[int]) -> list[Part]:
    """Return the parts in order, under names that differ.

    ``names`` has the layer of each operation; the operations ``repeated`` become a piece of each part that reads them.
    """
    runs: list[list[int]] = []
    for index in _order(program, names, repeated):
        if runs and names[runs[-1][-1]] == names[index]:
            runs[-1].append(index)
        else:
            runs.append([index])
    home = {index: number for number, run in enumerate(runs) for index in run}
    closed = [sorted({*run, *_needs(program, run, repeated)}) for run in runs]
    read_elsewhere: list[set[Ref]] = [set() for _ in runs]
    for members in closed:
        own = set(members)
        for index in members:
            for ref in program.operations[index].inputs:
                if ref.kind == "result" and ref.place not in own:
                    read_elsewhere[home[ref.place]].add(ref)
    for ref in program.outputs:
        if ref.kind == "result" and ref.place in home:
            read_elsewhere[home[ref.place]].add(ref)
    taken: set[str] = set()
    return [
        _part(program, members, sorted(gives), _unique(names[run[0]], taken))
        for run, members, gives in zip(runs, closed, read_elsewhere, strict=True)
    ]


def _order(program: Program, names: Sequence[str], repeated: Collection[int]) -> list[int]:
    """Return the operations that are not repeated, each after those that it reads, and those of one name together."""
    needs = {
        index: _inputs(program, index, repeated) for index in range(len(program.operations)) if index not in repeated
    }
    readers: dict[int, list[int]] = {index: [] for index in needs}
    for index, others in needs.items():
        for other in others:
            readers[other].append(index)
    waiting = {index: len(others) for index, others in needs.items()}
    ready: dict[str, list[int]] = {}
    queue: list[int] = []
    ordered: list[int] = []
    done: set[int] = set()

    def push(index: int) -> None:
        heapq.heappush(ready.setdefault(names[index], []), index)
        heapq.heappush(queue, index)

    for index, count in waiting.items():
        if not count:
            push(index)
    while queue:
        same = ready.get(names[ordered[-1]], []) if ordered else []
        index = heapq.heappop(same or queue)
        if index in done:
            continue
        done.add(index)
        ordered.append(index)
        for reader in readers[index]:
            waiting[reader] -= 1
            if not waiting[reader]:
                push(reader)
    return ordered


def _inputs(program: Program, index: int, repeated: Collection[int]) -> set[int]:
    """Return the operations, none of them repeated, that an operation reads, also through repeated ones."""
    found: set[int] = set()
    stack, seen = [index], {index}
    while stack:
        for ref in program.operations[stack.pop()].inputs:
            if ref.kind != "result" or ref.place in seen:
                continue
            seen.add(ref.place)
            if ref.place in repeated:
                stack.append(ref.place)
            else:
                found.add(ref.place)
    return found


def _needs(program: Program, run: Sequence[int], repeated: Collection[int]) -> set[int]:
    """Return the repeated operations that a part needs."""
    found: set[int] = set()
    stack = list(run)
    while stack:
        for ref in program.operations[stack.pop()].inputs:
            if ref.kind == "result" and ref.place in repeated and ref.place not in found:
                found.add(ref.place)
                stack.append(ref.place)
    return found


def _part(program: Program, members: Sequence[int], gives: Sequence[Ref], name: str) -> Part:
    own = {index: place for place, index in enumerate(members)}
    reads: dict[Ref, int] = {}
    weights: dict[int, int] = {}
    constants: dict[int, int] = {}

    def local(ref: Ref) -> Ref:
        if ref.kind == "weight":
            return Ref("weight", weights.setdefault(ref.place, len(weights)))
        if ref.kind == "constant":
            return Ref("constant", constants.setdefault(ref.place, len(constants)))
        if ref.kind == "result" and ref.place in own:
            return Ref("result", own[ref.place], ref.output)
        return Ref("input", reads.setdefault(ref, len(reads)))

    operations = tuple(
        Operation(given.path, given.type, tuple(map(local, given.inputs)), given.attributes)
        for given in (program.operations[index] for index in members)
    )
    outputs = tuple(map(local, gives))
    piece = Program(
        operations,
        outputs,
        len(reads),
        tuple(program.weights[index] for index in weights),
        tuple(program.constants[index] for index in constants),
    )
    return Part(name, piece, tuple(reads), tuple(gives), tuple(weights))


def _unique(name: str, taken: set[str]) -> str:
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_part_{count}"
    taken.add(unique)
    return unique
