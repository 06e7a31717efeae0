"""Fold a per-channel Mul or Add into the convolution or dense layer before it, or else make it a convolution.

For a convolution ``y = W x + b`` and a batch norm ``y * s + t`` after it: ``W' = W * s`` over output
channels, ``b' = b * s + t`` (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, attribute, per_channel

_AXIS = {"Conv": 0, "MatMul": 1}
"""Axis of the output channels in the weights."""


def split_batch_norm(graph: Graph) -> int:
    """Write each BatchNormalization (inference form) as one Mul and one Add; return how many."""
    count = 0
    shapes = graph.shapes()
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        affine = _scale_and_shift(graph, node)
        if affine is None or node.input[0] not in shapes:
            nodes.append(node)
            continue
        scale, shift = affine
        shape = (-1, *(1,) * (len(shapes[node.input[0]]) - 2))
        stem, middle = node.output[0], graph.fresh(f"{node.output[0]}/scaled")
        factor = graph.add_array(f"{stem}/scale", scale.astype(np.float32).reshape(shape))
        offset = graph.add_array(f"{stem}/shift", shift.astype(np.float32).reshape(shape))
        nodes.append(onnx.helper.make_node("Mul", [node.input[0], factor], [middle], f"{node.name}/scale"))
        nodes.append(onnx.helper.make_node("Add", [middle, offset], [stem], f"{node.name}/shift"))
        count += 1
    graph.nodes = nodes
    return count


def fold_affine(graph: Graph) -> int:
    """Fold Mul and Add by constants into Conv, and Mul into MatMul, before them; return how many."""
    producers, consumers, shapes = dict(graph.producers()), graph.consumers(), graph.shapes()
    renamed: dict[str, str] = {}
    gone = []
    for node in graph.nodes:
        if node.op_type not in ("Mul", "Add") or len(node.input) != 2:
            continue
        constant = [name for name in node.input if name in graph.arrays]
        sources = [name for name in node.input if name not in graph.arrays]
        if len(constant) != 1 or len(sources) != 1:
            continue
        (read,) = sources
        source = read
        while source in renamed:
            source = renamed[source]
        layer = producers.get(source)
        # The readers of ``read``: a folded Mul or Add may have had two, although the layer had one.
        if layer is None or layer.op_type not in _AXIS or len(consumers[read]) != 1 or source in graph.kept:
            continue
        weight = graph.arrays.get(layer.input[1])
        if weight is None or (layer.op_type == "MatMul" and (node.op_type == "Add" or weight.ndim != 2)):
            continue
        axis = _AXIS[layer.op_type]
        channels, rank = weight.shape[axis], weight.ndim
        vector = per_channel(graph.arrays[constant[0]], channels, rank)
        if vector is None or len(shapes.get(node.output[0], ())) != rank:
            continue
        if not _fold(graph, layer, node.op_type, vector):
            continue
        if node.output[0] in graph.kept:
            layer.output[0] = node.output[0]
            producers[node.output[0]] = layer
        else:
            renamed[node.output[0]] = source
        gone.append(node)
    graph.remove(gone)
    graph.rewire(renamed)
    return len(gone)


def _fold(graph: Graph, layer: onnx.NodeProto, operation: str, vector: NDArray[np.float32]) -> bool:
    weight = graph.arrays[layer.input[1]]
    has_bias = len(layer.input) > 2 and layer.input[2]
    if has_bias and layer.input[2] not in graph.arrays:
        return False
    bias = graph.arrays[layer.input[2]].astype(np.float64) if has_bias else np.zeros(len(vector))
    if operation == "Mul":
        shape = [1] * weight.ndim
        shape[_AXIS[layer.op_type]] = -1
        # New arrays under new names: another layer may share the old ones.
        # In C order: transposed views would keep theirs, and writing the model would copy them once more.
        scaled = np.multiply(weight, vector.reshape(shape), order="C")
        layer.input[1] = graph.add_array(f"{layer.name}/weight", scaled)
        bias = bias * vector
    else:
        bias = bias + vector
    if layer.op_type == "Conv" and (has_bias or operation == "Add"):
        name = graph.add_array(f"{layer.name}/bias", bias.astype(np.float32))
        layer.input[:] = [layer.input[0], layer.input[1], name]
    return True


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
        affine = _scale_and_shift(graph, node)
        if affine is None or len(node.output) > 1 or len(shapes.get(node.input[0], ())) != 4:
            continue
        before = producers.get(node.input[0])
        if before is None or before.op_type not in _INTEGERS:
            continue
        factor = graph.add_array(f"{node.name}/factor", affine[0].reshape(-1, 1, 1, 1).astype(np.float32))
        inputs = [node.input[0], factor, graph.add_array(f"{node.name}/offset", affine[1].astype(np.float32))]
        values: dict[str, Any] = {"kernel_shape": [1, 1], "group": len(affine[0])}
        node.CopyFrom(onnx.helper.make_node("Conv", inputs, list(node.output), node.name, **values))
        count += 1
    return count


def _scale_and_shift(graph: Graph, node: onnx.NodeProto) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return s and t, (channels,), of a BatchNormalization in inference form with constant statistics, else None."""
    if node.op_type != "BatchNormalization" or attribute(node, "training_mode", 0):
        return None
    if not all(name in graph.arrays and graph.arrays[name].dtype == np.float32 for name in node.input[1:]):
        return None
    gamma, beta, mean, variance = (graph.arrays[name].astype(np.float64) for name in node.input[1:])
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale
