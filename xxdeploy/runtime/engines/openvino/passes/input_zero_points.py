"""The zero point of what a depthwise convolution of one point reads, as its bias."""

from __future__ import annotations

import numpy as np

from xxdeploy.runtime.engines.openvino.passes.nodes import Graph, dequantized, folded, kind, users


def input_zero_points_as_biases(graph: Graph) -> int:
    """Take ``scale * zero point * weight`` off the bias and read from zero; return how many.

    The normalizations of DenseNet and ResNet V2 are such layers. OpenVINO corrects for a zero point at every element;
    without padding the correction is one number for each channel.
    """
    done = 0
    for node in graph.of_kind("GroupConvolution"):
        if [str(each) for each in node.input(1).get_partial_shape()][1:] != ["1"] * 4:
            continue
        read, how = dequantized(node.input_value(0).get_node()), node.get_attributes()
        if read is None or read.grid.zero_point == 0 or any(how["pads_begin"]) or any(how["pads_end"]):
            continue
        weight, behind = folded(node.input_value(1)), users(node)
        if weight is None or [kind(each) for each in behind] != ["Add"]:
            continue
        # By names: each reading of a node makes another object of Python's.
        index = int(behind[0].input_value(0).get_node().get_name() == node.get_name())
        bias = folded(behind[0].input_value(index))
        if bias is None or bias.shape != (1, len(weight), 1, 1):
            continue
        source = graph.ops.multiply(graph.ops.convert(read.source, "f32"), np.float32(read.grid.scale))
        node.input(0).replace_source_output(source.output(0))
        moved = bias.ravel() - np.float32(read.grid.scale * read.grid.zero_point) * weight.ravel()
        behind[0].input(index).replace_source_output(graph.ops.constant(moved.reshape(1, -1, 1, 1)).output(0))
        done += 1
    return done
