"""Find the parts of a graph that lose their answer in eight bits: the insides of norms and of attention, and answers.

A norm (layer, group, instance, RMS, L2, or written by hand) divides a tensor by a statistic of itself. Its squares, its
sums and its reciprocal root span many powers of two, and each would be rounded to 256 steps. They are found by
structure: two paths leave one tensor, one of them through a reduction and neither through a layer with weights, and
meet again. All nodes between the fork and the meeting stay in float, so the norm is quantized at its borders only.

The scores of attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1) are products of two activations, scaled
by a number before or after the product, and read by a softmax, whose exponentials amplify each rounding. From the
scaling to the softmax they stay in float, too.

Answers are what is computed from a sigmoid or a softmax for the outputs alone, without weights: 1 - p and p of a
classifier of two classes, or a picture of 0..1 times 255. Eight bits would round a small probability to zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.optional import extra
from xxdeploy.quantize.policy import Role

with extra("export"):
    from onnx import NodeProto

_ROOT = ""
"""The tensor before all inputs."""
_REDUCTIONS = ("GlobalAveragePool", "GlobalMaxPool", "Softmax", "LogSoftmax", "CumSum", "LpNormalization")
_PRODUCTS = ("MatMul", "Einsum")
_SQUASHES = ("Sigmoid", "Softmax", "Tanh")


def float_insides(graph: Graph, roles: Mapping[int, Role]) -> frozenset[str]:
    """Return the first outputs of the nodes that stay in float: the insides of norms and of attention, and answers.

    ``roles`` maps the ``id`` of each node to its role on the target.
    """
    return frozenset(_norms(graph, roles)) | frozenset(_scores(graph, roles)) | _answers(graph, roles)


def _norms(graph: Graph, roles: Mapping[int, Role]) -> Iterator[str]:
    """Yield the outputs of all nodes between a tensor and the place where its statistic meets it."""
    if not any(_reduces(node) for node in graph.nodes):
        return
    forks = _forks(graph)
    producers = graph.producers()
    for node in graph.nodes:
        operands = set(graph.activations(node)) & graph.floats
        if (
            len(operands) < 2
            or node.output[0] not in forks
            or node.op_type == "Concat"
            or roles[id(node)] is Role.COMPUTE
        ):
            continue
        inside, open_ends = {node.output[0]: node}, list(operands)
        while open_ends:
            name = open_ends.pop()
            made = producers.get(name)
            if name == forks[node.output[0]] or made is None or made.output[0] in inside:
                continue
            if roles[id(made)] is Role.COMPUTE:
                break
            inside[made.output[0]] = made
            open_ends += [read for read in graph.activations(made) if read in graph.floats]
        else:
            if any(_reduces(each) for each in inside.values()):
                yield from inside


def _reduces(node: NodeProto) -> bool:
    return node.op_type.startswith("Reduce") or node.op_type in _REDUCTIONS


def _forks(graph: Graph) -> dict[str, str]:
    """Map each float tensor to the last one before it that all its paths pass, its immediate dominator.

    Cooper, Harvey & Kennedy 2001, "A Simple, Fast Dominance Algorithm"; one pass is enough without cycles.
    """
    above: dict[str, str] = dict.fromkeys(graph.inputs, _ROOT)
    depth = {_ROOT: 0, **dict.fromkeys(graph.inputs, 1)}
    for node in graph.nodes:
        reads = [name for name in graph.activations(node) if name in above]
        fork = reads[0] if reads else _ROOT
        for name in reads[1:]:
            while fork != name:
                if depth[fork] >= depth[name]:
                    fork = above[fork]
                else:
                    name = above[name]
        for output in node.output:
            if output in graph.floats:
                above[output], depth[output] = fork, depth[fork] + 1
    return above


def _scores(graph: Graph, roles: Mapping[int, Role]) -> Iterator[str]:
    """Yield the outputs of the nodes between the scaled operands of a product of activations and its softmax."""
    producers = graph.producers()
    for node in graph.nodes:
        if node.op_type not in _PRODUCTS or roles[id(node)] is Role.COMPUTE or len(graph.activations(node)) < 2:
            continue
        for name in graph.activations(node):
            while (made := producers.get(name)) is not None and _is_simple(graph, made, roles):
                if roles[id(made)] is Role.ARITHMETIC:
                    yield str(made.output[0])
                name = graph.activations(made)[0]
        path: list[str] = []
        reader = graph.only_consumer(node.output[0])
        while reader is not None and reader.op_type != "Softmax" and roles[id(reader)] is not Role.COMPUTE:
            path.append(str(reader.output[0]))
            reader = graph.only_consumer(reader.output[0])
        if reader is not None and reader.op_type == "Softmax":
            yield from path


def _answers(graph: Graph, roles: Mapping[int, Role]) -> frozenset[str]:
    """Return the outputs of the nodes after a sigmoid or a softmax that no layer with weights follows."""
    after: set[str] = set()
    for node in graph.nodes:
        if node.op_type in _SQUASHES or after.intersection(node.input):
            after |= set(node.output)
    weighed: set[str] = set()
    for node in reversed(graph.nodes):
        if roles[id(node)] is Role.COMPUTE or weighed.intersection(node.output):
            weighed |= set(node.input)
    return frozenset(
        node.output[0]
        for node in graph.nodes
        if node.output[0] in after - weighed and roles[id(node)] is not Role.COMPUTE
    )


def _is_simple(graph: Graph, node: NodeProto, roles: Mapping[int, Role]) -> bool:
    """Tell whether a node scales, shifts or moves one activation."""
    one = len(graph.activations(node)) == 1
    return one and (roles[id(node)] is Role.PASS or node.op_type in ("Add", "Mul", "Div", "Sub"))
