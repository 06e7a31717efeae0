"""Write a batch normalization of integers as a 1x1 depthwise convolution, which has INT8 kernels."""

from __future__ import annotations

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, attribute

_INTEGERS = ("Add", "Concat", "MaxPool")
"""Operators that write integers before a normalization: sums, Concats, and the first pool of both families."""


def scale_in_integers(graph: Graph) -> int:
    """Turn BatchNormalizations of sums, Concats and MaxPools into 1x1 depthwise convolutions; return how many.

    ResNet V2 normalizes the sum at the end of a block (He et al. 2016, arXiv:1603.05027, figure 1b), DenseNet the
    Concat of all earlier layers (Huang et al. 2017, arXiv:1608.06993, equation 2), so no convolution can take it over.
    One weight per channel is exact in 8 bits, and the input is in integers already: nothing more is rounded, and a Relu
    after it is free. OpenVINO 2026.4 crashes on the batch normalization of a quantized Concat.
    """
    producers, shapes = graph.producers(), graph.shapes()
    count = 0
    for node in graph.nodes:
        if node.op_type != "BatchNormalization" or len(node.output) > 1 or attribute(node, "training_mode", 0):
            continue
        before = producers.get(node.input[0])
        values = [graph.arrays.get(name) for name in node.input[1:]]
        if before is None or before.op_type not in _INTEGERS or len(shapes.get(node.input[0], ())) != 4:
            continue
        if any(value is None or value.dtype != np.float32 for value in values):
            continue
        scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        weights = [factor.reshape(-1, 1, 1, 1), shift - factor * mean]
        names = [
            graph.add_array(f"{node.name}/{what}", value.astype(np.float32))
            for what, value in zip(("factor", "offset"), weights, strict=True)
        ]
        node.CopyFrom(
            onnx.helper.make_node(
                "Conv", [node.input[0], *names], list(node.output), node.name, kernel_shape=[1, 1], group=len(factor)
            )
        )
        count += 1
    return count
