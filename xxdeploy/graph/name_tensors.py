"""Give every tensor a name that a person can read, from the Keras layer that it belongs to."""

from __future__ import annotations

from xxdeploy.graph.graph import Graph

_ROLES = {"Conv": ("", "weight", "bias"), "Gemm": ("", "weight", "bias"), "MatMul": ("weight", "weight")}


def name_tensors(graph: Graph) -> int:
    """Drop layout suffixes from tensors and name initializers after the node that reads them; return how many."""
    names: dict[str, str] = {}
    taken = set(graph.inputs) | set(graph.outputs)
    for node in graph.nodes:
        for output in node.output:
            plain = output.removesuffix("/nchw")
            if output and output not in taken:
                names[output] = _unique(plain, taken)
                taken.add(names[output])
    for node in graph.nodes:
        roles = _ROLES.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if name in graph.arrays and name not in names:
                role = roles[index] if index < len(roles) else f"constant_{index}"
                names[name] = _unique(f"{node.name.removesuffix('/nchw')}/{role}", taken)
                taken.add(names[name])
    for node in graph.nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = node.name.removesuffix("/nchw")
    graph.arrays = {names.get(name, name): array for name, array in graph.arrays.items()}
    return sum(old != new for old, new in names.items())


def _unique(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name
