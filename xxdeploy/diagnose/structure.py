"""What two graphs of one network differ in, without running them: operators, attributes, constants, missing nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

with extra("export"):
    from onnx import helper

_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})


def constant_faults(reference: OnnxModel, candidate: OnnxModel) -> Mapping[str, str]:
    """Return, by node, in words the single numbers that the candidate has otherwise: the cap of a ReLU6, an epsilon.

    Only nodes of the same operator that read a constant in the same place are compared. Such a number may change no
    value on the images at hand, and is wrong all the same.
    """
    (left, numbers), (right, others) = reference.split(), candidate.split()
    theirs = {node.name: node for node in right.graph.node}
    found = {}
    for node in left.graph.node:
        other = theirs.get(node.name)
        if other is None or other.op_type != node.op_type or node.op_type in _ROUNDING:
            continue
        for place, (name, named) in enumerate(zip(node.input, other.input, strict=False)):
            wanted, value = numbers.get(name), others.get(named)
            if wanted is not None and value is not None and wanted.size == value.size == 1 and wanted.ndim == 0:
                one, two = float(wanted.item()), float(value.item())
                if not math.isclose(one, two, rel_tol=1e-5):
                    found[node.name] = f"{node.op_type} {node.name} has {two:g} instead of {one:g} as input {place}"
    return found


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
