"""Name every tensor after the Keras layer that it belongs to."""

from __future__ import annotations

from xxdeploy.onnxmodel.graph import Graph

_ROLES = {"Conv": ("", "weight", "bias"), "Gemm": ("", "weight", "bias"), "MatMul": ("weight", "weight")}


def name_tensors(graph: Graph) -> int:
    """Drop layout suffixes from tensors and name initializers after the node that reads them; return how many."""
    fixed = graph.kept | set(graph.inputs)
    names: dict[str, str] = {}
    taken = set(fixed | graph.inner)
    nodes: set[str] = set()

    def give(name: str, stem: str) -> None:
        names[name] = _unique(stem, taken)
        taken.add(names[name])

    for node in graph.nodes:
        for output in node.output:
            if output and output not in fixed:
                give(output, output.removesuffix("/nchw"))
    for node in graph.nodes:
        roles = _ROLES.get(node.op_type, ())
        node.name = _unique(node.name.removesuffix("/nchw"), nodes)  # a Transpose is named after its tensor
        nodes.add(node.name)
        for index, name in enumerate(node.input):
            if name in graph.arrays and name not in fixed and name not in names:
                role = roles[index] if index < len(roles) else f"constant_{index}"
                give(name, f"{node.name}/{role}")
    for name in graph.arrays:  # an unread initializer may not keep a name that another tensor got
        if name not in fixed and name not in names:
            give(name, name)
    graph.rename(names)
    return sum(old != new for old, new in names.items())


def _unique(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name
