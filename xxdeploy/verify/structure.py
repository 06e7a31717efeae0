"""What two graphs of one network differ in, without running them: operators, attributes, nodes that are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xxdeploy.artifacts import OnnxModel
from xxdeploy.optional import extra

with extra("export"):
    from onnx import helper

_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})


def structure_faults(reference: OnnxModel, candidate: OnnxModel) -> Mapping[str, str]:
    """Return, by the name of the reference's node, in words how the candidate's is another.

    Rounding that the candidate adds does not count. Passes may rightly change a graph, so this explains a wrong value
    and is no fault by itself.
    """
    theirs = {node.name: node for node in candidate.split()[0].graph.node}
    found = {}
    for node in reference.split()[0].graph.node:
        if node.op_type in _ROUNDING:
            continue
        other = theirs.get(node.name)
        if other is None:
            found[node.name] = f"{node.op_type} {node.name} is missing"
        elif other.op_type != node.op_type:
            found[node.name] = f"{node.name} is {other.op_type} instead of {node.op_type}"
        elif told := _attributes(node, other):
            found[node.name] = f"{node.op_type} {node.name} has {told}"
    return found


def _attributes(node: Any, other: Any) -> str:
    left, right = ({item.name: helper.get_attribute_value(item) for item in each.attribute} for each in (node, other))
    return ", ".join(
        f"{name} {right.get(name)} instead of {left.get(name)}"
        for name in sorted({*left, *right})
        if str(left.get(name)) != str(right.get(name))
    )
