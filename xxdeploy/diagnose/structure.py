"""Compare the structure of two graphs of one network: operators, attributes, constants, missing nodes."""

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
    """Describe, by node, the scalar constants that differ in the candidate: the cap of a ReLU6, an epsilon.

    Compares nodes of the same operator that read a constant in the same place. A wrong constant is a fault even if it
    changes no value on the images at hand.
    """
    (left, numbers), (right, others) = reference.split(), candidate.split()
    theirs = {node.name: node for node in right.graph.node}
    faults = {}
    for node in left.graph.node:
        other = theirs.get(node.name)
        if other is None or other.op_type != node.op_type or node.op_type in _ROUNDING:
            continue
        for place, (name, named) in enumerate(zip(node.input, other.input, strict=False)):
            wanted, value = numbers.get(name), others.get(named)
            if wanted is not None and value is not None and wanted.size == value.size == 1 and wanted.ndim == 0:
                one, two = float(wanted.item()), float(value.item())
                if not math.isclose(one, two, rel_tol=1e-5):
                    faults[node.name] = f"{node.op_type} {node.name} has {two:g} instead of {one:g} as input {place}"
    return faults


def structure_faults(reference: OnnxModel, candidate: OnnxModel) -> Mapping[str, str]:
    """Describe, by node of the reference, how the candidate's node differs.

    Rounding added by the candidate does not count. Passes may change a graph correctly, so a difference explains a
    wrong value, but is no fault in itself.
    """
    theirs = {node.name: node for node in candidate.split()[0].graph.node}
    faults = {}
    for node in reference.split()[0].graph.node:
        if node.op_type in _ROUNDING:
            continue
        other = theirs.get(node.name)
        if other is None:
            faults[node.name] = f"{node.op_type} {node.name} is missing"
        elif other.op_type != node.op_type:
            faults[node.name] = f"{node.name} is {other.op_type} instead of {node.op_type}"
        elif told := _attributes(node, other):
            faults[node.name] = f"{node.op_type} {node.name} has {told}"
    return faults


def _attributes(node: Any, other: Any) -> str:
    left, right = ({item.name: helper.get_attribute_value(item) for item in side.attribute} for side in (node, other))
    return ", ".join(
        f"{name} {right.get(name)} instead of {left.get(name)}"
        for name in sorted({*left, *right})
        if str(left.get(name)) != str(right.get(name))
    )
