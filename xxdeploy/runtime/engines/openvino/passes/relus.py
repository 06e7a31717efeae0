"""An integer ReLU before depthwise convolutions, its zero point taken off."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xxdeploy.runtime.engines.openvino.passes.nodes import Graph, is_uint8, kind, scalar, users

LARGEST = 1 << 17
"""Elements of an image's value up to which it pays: Xception's of 266,000 lose 1.7 % of the network's time by it."""


def relus_from_zero(graph: Graph) -> int:
    """Write ``Max(q, z)``, read with zero point z, as ``Max(q - z, 0)`` with zero point zero; return how many.

    The file's form costs ONNX Runtime least. In OpenVINO a convolution with padding and a zero point other than zero
    corrects every border: 3 to 10 microseconds a layer, most of what a small depthwise convolution takes.
    """
    done = 0
    for node in graph.of_kind("Minimum", "Maximum"):
        if not is_uint8(node.output(0)):
            continue
        if (found := _clipped(node)) is None or not _is_small(node):
            continue
        source, zero_point = found
        pairs = [(convert, users(convert)) for convert in users(node)]
        if not pairs or not all(_reads_from(convert, readers, zero_point) for convert, readers in pairs):
            continue
        above = graph.ops.subtract(graph.ops.convert(source, "f32"), np.float32(zero_point))
        whole = graph.ops.convert(graph.ops.relu(above), "u8")
        whole.set_friendly_name(node.get_friendly_name())
        for convert, readers in pairs:
            convert.input(0).replace_source_output(whole.output(0))
            for subtract in readers:
                subtract.output(0).replace(convert.output(0))
        done += 1
    return done


def _clipped(node: Any) -> tuple[Any, float] | None:
    """Return what Clip(value, zero point, 255) clips, and from where on; it is read as Minimum(Maximum)."""
    if kind(node) == "Minimum":
        limits = [scalar(node.input_value(index)) for index in range(2)]
        if 255.0 not in limits:
            return None
        node = node.input_value(1 - limits.index(255.0)).get_node()
    elif any(kind(each) == "Minimum" for each in users(node)):
        return None  # it is the inner half of a Clip
    if kind(node) != "Maximum":
        return None
    limits = [scalar(node.input_value(index)) for index in range(2)]
    low = next((each for each in limits if each is not None), None)
    return None if low is None else (node.input_value(1 - limits.index(low)), low)


def _is_small(node: Any) -> bool:
    sides = list(node.get_output_partial_shape(0))[1:]
    return all(each.is_static for each in sides) and math.prod(each.get_length() for each in sides) <= LARGEST


def _reads_from(convert: Any, readers: list[Any], zero_point: float) -> bool:
    """Tell whether the value is read as float, with this zero point, by all."""
    if kind(convert) != "Convert" or not readers:
        return False
    return all(kind(each) == "Subtract" and scalar(each.input_value(1)) == zero_point for each in readers)
