"""Write the sum of two pointwise convolutions as one over the channels of both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, Shape, attribute


def merge_sums(graph: Graph) -> int:
    """Turn ``Add(Conv1x1(a), Conv1x1(b))`` into ``Conv1x1(Concat(a, b))``; return how many.

    Two of the five sums in a cell of NASNet are of two separable convolutions (Zoph et al. 2018, arXiv:1707.07012,
    figure 4), and so sums of products over the channels of both. One product over twice the channels writes its result
    once, and in INT8 rounds it once instead of three times. Three nodes become two, of which one copies. ``a`` and
    ``b`` must have no other readers: in INT8 they share a scale, which would cost other readers precision.
    """
    producers, consumers, shapes = graph.producers(), graph.consumers(), graph.shapes()
    made: dict[str, onnx.NodeProto] = {}
    gone: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node.op_type != "Add" or len(set(node.input)) != 2:
            continue
        pair = [producers.get(name) for name in node.input]
        first, second = pair
        if first is None or second is None or not all(_is_pointwise(graph, conv, shapes) for conv in (first, second)):
            continue
        alone = (*node.input, first.input[0], second.input[0])
        if any(len(consumers[name]) != 1 or name in graph.kept for name in alone):
            continue
        if shapes.get(first.input[0], ())[2:] != shapes.get(second.input[0], (None,))[2:]:
            continue  # the Add may broadcast one of the two
        weights = [graph.arrays[conv.input[1]] for conv in (first, second)]
        if len(weights[0]) != len(weights[1]):
            continue
        inputs = [
            graph.fresh(f"{node.name}/both"),
            graph.add_array(f"{node.name}/kernel", np.concatenate(weights, axis=1)),
        ]
        biases = [graph.arrays[conv.input[2]] for conv in (first, second) if len(conv.input) > 2]
        if biases:
            inputs.append(graph.add_array(f"{node.name}/bias", np.stack(biases).sum(axis=0, dtype=np.float32)))
        both = onnx.helper.make_node(
            "Concat", [first.input[0], second.input[0]], [inputs[0]], f"{node.name}/both", axis=1
        )
        conv = onnx.helper.make_node("Conv", inputs, list(node.output), node.name, kernel_shape=[1, 1])
        made[node.output[0]] = both
        node.CopyFrom(conv)
        gone += [first, second]
    graph.remove(gone)
    graph.nodes = [new for node in graph.nodes for new in (made.get(node.output[0]), node) if new is not None]
    return len(made)


def _is_pointwise(graph: Graph, node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> bool:
    if node.op_type != "Conv" or attribute(node, "group", 1) != 1:
        return False
    weights = graph.arrays.get(node.input[1])
    if weights is None or weights.dtype != np.float32 or weights.shape[2:] != (1, 1):
        return False
    if any(name not in graph.arrays for name in node.input[2:] if name) or len(shapes.get(node.input[0], ())) != 4:
        return False
    return set(attribute(node, "strides", [1])) == {1} and not any(attribute(node, "pads", [0]))
