"""Passes over OpenVINO's copy of the graph, before it is compiled.

The ONNX file is written for ONNX Runtime; rewrites that help only OpenVINO are done here, on the graph that it read.
Each pass keeps every integer of the file, up to the rounding of a bias, and returns how many places it changed.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.runtime.engines.metadata import LRN, noted_lrn, roots
from xxdeploy.runtime.engines.openvino.graph import (
    Graph,
    dequantized,
    folded,
    is_uint8,
    kind,
    quantizing_grid,
    scalar,
    users,
)

_log = logging.getLogger(__name__)


def join_lrn(graph: Graph) -> int:
    """Put LRN where the file's metadata name its last node; return how many."""
    model = graph.model
    if not model.has_rt_info(["framework", LRN]):
        return 0
    noted = noted_lrn(str(model.get_rt_info(["framework", LRN]).value))
    joined = 0
    if not noted:
        return 0
    for node in graph.of_kind("Divide"):
        if (lrn := noted.get(node.get_friendly_name())) is None:
            continue
        size, alpha, beta, bias = lrn
        source = node.input_value(0)
        for _ in range((roots(beta) or 1) - 1):
            source = source.get_node().input_value(0)
        whole = graph.ops.lrn(source, [1], alpha, beta, bias, size, name=node.get_friendly_name()).output(0)
        whole.set_names(node.output(0).get_names())
        node.output(0).replace(whole)
        joined += 1
    return joined


def drop_repeated_pairs(graph: Graph) -> int:
    """Take DequantizeLinear and QuantizeLinear of one grid out; return how many pairs.

    ONNX Runtime needs the second pair of an image (its convolution takes the output of QuantizeLinear), OpenVINO copies
    the picture for it: 0.04 ms at 224 pixels.
    """
    dropped = 0
    for node in graph.of_kind("FakeQuantize"):
        if (before := dequantized(node.input_value(0).get_node())) is None or (grid := quantizing_grid(node)) is None:
            continue
        readers = users(node)
        if not before.grid.is_like(grid) or any(
            kind(reader) != "Convert" or not is_uint8(reader.output(0)) for reader in readers
        ):
            continue
        for reader in readers:
            reader.output(0).replace(before.source)
        dropped += 1
    return dropped


LARGEST = 1 << 17
"""Elements of an image's value up to which it pays: Xception's of 266,000 lose 1.7 % of the network's time by it."""


def relus_from_zero(graph: Graph, *, largest: int = LARGEST) -> int:
    """Write ``Max(q, z)``, read with zero point z, as ``Max(q - z, 0)`` with zero point zero; return how many.

    The file's form costs ONNX Runtime least. In OpenVINO a convolution with padding and a zero point other than zero
    corrects every border: 3 to 10 microseconds a layer, most of the time of a small depthwise convolution.
    """
    done = 0
    for node in graph.of_kind("Minimum", "Maximum"):
        if not is_uint8(node.output(0)):
            continue
        if (clip := _clipped(node)) is None or not _has_at_most(node, largest):
            continue
        source, zero_point = clip
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
    """Return the input and the zero point of Clip(input, zero point, 255), which OpenVINO reads as Minimum(Maximum)."""
    if kind(node) == "Minimum":
        limits = [scalar(node.input_value(index)) for index in range(2)]
        if 255.0 not in limits:
            return None
        node = node.input_value(1 - limits.index(255.0)).get_node()
    elif any(kind(user) == "Minimum" for user in users(node)):
        return None  # it is the inner half of a Clip
    if kind(node) != "Maximum":
        return None
    limits = [scalar(node.input_value(index)) for index in range(2)]
    low = next((limit for limit in limits if limit is not None), None)
    return None if low is None else (node.input_value(1 - limits.index(low)), low)


def _has_at_most(node: Any, count: int) -> bool:
    """Return True if one image's value of ``node`` has at most ``count`` elements."""
    sides = list(node.get_output_partial_shape(0))[1:]
    return all(side.is_static for side in sides) and math.prod(side.get_length() for side in sides) <= count


def _reads_from(convert: Any, readers: list[Any], zero_point: float) -> bool:
    """Tell whether the value is read as float, with this zero point, by all."""
    if kind(convert) != "Convert" or not readers:
        return False
    return all(kind(reader) == "Subtract" and scalar(reader.input_value(1)) == zero_point for reader in readers)


def input_zero_points_as_biases(graph: Graph) -> int:
    """Take ``scale * zero point * weight`` off the bias and read from zero; return how many.

    The normalizations of DenseNet and ResNet V2 are such layers. OpenVINO corrects for a zero point at every element;
    without padding the correction is one number for each channel.
    """
    done = 0
    for node in graph.of_kind("GroupConvolution"):
        if [str(side) for side in node.input(1).get_partial_shape()][1:] != ["1"] * 4:
            continue
        read, how = dequantized(node.input_value(0).get_node()), node.get_attributes()
        if read is None or read.grid.zero_point == 0 or any(how["pads_begin"]) or any(how["pads_end"]):
            continue
        weight, readers = folded(node.input_value(1)), users(node)
        if weight is None or [kind(reader) for reader in readers] != ["Add"]:
            continue
        # By names: each reading of a node makes another object of Python's.
        index = int(readers[0].input_value(0).get_node().get_name() == node.get_name())
        bias = folded(readers[0].input_value(index))
        if bias is None or bias.shape != (1, len(weight), 1, 1):
            continue
        source = graph.ops.multiply(graph.ops.convert(read.source, "f32"), np.float32(read.grid.scale))
        node.input(0).replace_source_output(source.output(0))
        moved = bias.ravel() - np.float32(read.grid.scale * read.grid.zero_point) * weight.ravel()
        readers[0].input(index).replace_source_output(graph.ops.constant(moved.reshape(1, -1, 1, 1)).output(0))
        done += 1
    return done


TELLS_APART = 1e-4
"""By how much of a step the first channel's bias differs: OpenVINO turns equal ones back into a number in the code."""


def output_zero_points_as_biases(graph: Graph) -> int:
    """Add ``scale * zero point`` before QuantizeLinear and let it start from zero; return how many.

    OpenVINO writes a zero point into the machine code of a layer, so that layers of one shape share no code: the 153
    depthwise layers of NASNetMobile get 153 kernels, and each waits for its own to be fetched. A bias is data: 23
    kernels are left, the integers are the same.
    """
    done = 0
    for node in graph.of_kind("FakeQuantize"):
        layer = node.input_value(0).get_node()
        if kind(layer) != "GroupConvolution" or len(users(layer)) != 1:
            continue
        grid = quantizing_grid(node)
        if grid is None or grid.zero_point == 0:
            continue
        channels = layer.get_output_partial_shape(0)[1].get_length()
        bias = np.full((1, channels, 1, 1), grid.scale * grid.zero_point, np.float32)
        bias[0, 0] += TELLS_APART * grid.scale
        node.input(0).replace_source_output(graph.ops.add(layer, graph.ops.constant(bias)).output(0))
        node.input(1).replace_source_output(graph.ops.constant(np.float32(0)).output(0))
        node.input(2).replace_source_output(graph.ops.constant(np.float32(255 * grid.scale)).output(0))
        done += 1
    return done


def pool_by_depthwise(graph: Graph) -> int:
    """Write AveragePool of uint8 as a convolution with ones, twice as fast in OpenVINO; return how many.

    The sums are the same integers. Where padding does not count, a multiplication with a constant divides the borders
    by the number of covered elements; it is fused with the addition after it. Where padding counts, OpenVINO 2026.4
    averages zeros into the integers, whatever their zero point: NASNetMobile kept 93.0 instead of 97.2 % of its
    classes.
    """
    done = 0
    for node in graph.of_kind("AvgPool"):
        if (read := dequantized(node.input_value(0).get_node())) is None:
            continue
        how, shape = node.get_attributes(), list(node.input(0).get_partial_shape())
        kernel, begin, end, strides = (list(how[key]) for key in ("kernel", "pads_begin", "pads_end", "strides"))
        is_wrong = read.grid.zero_point != 0 and any(begin + end) and not how["exclude-pad"]
        if not is_wrong and [kind(user) for user in users(node)] != ["Add"]:
            continue
        if not all(side.is_static for side in shape[1:]):
            continue
        channels, *sides = (side.get_length() for side in shape[1:])
        if len(sides) != 2 or how["rounding_type"] != "floor" or set(how.get("dilations", ())) - {1}:
            continue
        if how["auto_pad"] not in ("explicit", "valid"):
            continue
        ones = graph.ops.convert(graph.ops.constant(np.ones((channels, 1, 1, *kernel), np.int8)), "f32")
        share = np.full((channels, 1, 1, 1, 1), 1 / np.prod(kernel), np.float32)
        weight = graph.ops.multiply(ones, graph.ops.constant(share))
        whole = graph.ops.group_convolution(node.input_value(0), weight, strides, begin, end, [1, 1])
        if how["exclude-pad"] and any(begin + end):
            rows, columns = (_present(*side) for side in zip(sides, kernel, begin, end, strides, strict=True))
            there = (np.prod(kernel) / np.outer(rows, columns)).astype(np.float32)
            whole = graph.ops.multiply(whole, graph.ops.constant(there[None, None]))
        whole.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(whole.output(0))
        done += 1
    return done


def _present(size: int, kernel: int, begin: int, end: int, stride: int) -> NDArray[np.int64]:
    """Return how many elements of a side each window covers."""
    starts = np.arange((size + begin + end - kernel) // stride + 1) * stride - begin
    return np.minimum(starts + kernel, size) - np.maximum(starts, 0)


PASSES = (
    join_lrn,
    drop_repeated_pairs,
    relus_from_zero,
    input_zero_points_as_biases,
    output_zero_points_as_biases,
    pool_by_depthwise,
)


def rewrite(model: Any) -> bool:
    """Run every pass on an ``openvino.Model``, in place; False where this OpenVINO does not allow one of them.

    What is left then must not be run: read it again.
    """
    try:
        graph = Graph.of(model)
        for step in PASSES:
            step(graph)
    except Exception as error:  # noqa: BLE001 - a version with other operators: slower, but the same answers
        _log.warning("OpenVINO runs the graph as it was read: %s", error)
        return False
    return True
