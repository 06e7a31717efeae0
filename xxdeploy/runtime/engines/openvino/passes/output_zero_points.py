"""The zero point of what a depthwise convolution writes, as its bias."""

from __future__ import annotations

import numpy as np

from xxdeploy.runtime.engines.openvino.passes.nodes import Graph, kind, quantizing_grid, users

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
