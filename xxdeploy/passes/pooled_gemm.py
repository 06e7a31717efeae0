"""Write a 1x1 convolution after a global pool as a matrix product."""

from __future__ import annotations

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, attribute, set_attribute

_POOLS = ("GlobalAveragePool", "GlobalMaxPool")
_FLATTENING = ("Flatten", "Reshape", "Squeeze")


def fuse_pooled_gemm(graph: Graph) -> int:
    """Turn pool, 1x1 Conv, flatten into pool, flatten, Gemm; return how many.

    Keras' MobileNet classifies with a convolution over one position. A Gemm's logits can stay in float in INT8, while
    those of a convolution are rounded to 256 values.
    """
    producers, consumers, shapes = graph.producers(), graph.consumers(), graph.shapes()
    count = 0
    for node in graph.nodes:
        weights = graph.arrays.get(node.input[1]) if node.op_type == "Conv" else None
        pool, output = producers.get(node.input[0]), node.output[0]
        if weights is None or weights.shape[2:] != (1, 1) or attribute(node, "group", 1) != 1:
            continue
        readers = consumers.get(output, [])
        if pool is None or pool.op_type not in _POOLS or len(readers) != 1 or output in graph.kept:
            continue
        flat = readers[0]
        if flat.op_type not in _FLATTENING or shapes.get(flat.output[0], ())[1:] != (len(weights),):
            continue
        matrix = graph.add_array(f"{node.name}/matrix", np.ascontiguousarray(weights.reshape(weights.shape[:2])))
        features = graph.fresh(f"{node.input[0]}/flat")
        before = onnx.helper.make_node("Flatten", [node.input[0]], [features], name=features, axis=1)
        after = flat.output[0]
        node.op_type = "Gemm"
        node.input[:] = [features, matrix, *list(node.input)[2:]]
        node.output[0] = after
        for item in [item.name for item in node.attribute]:
            set_attribute(node, item, None)
        set_attribute(node, "transB", 1)
        graph.nodes.insert(_index(graph, node), before)
        graph.remove([flat])
        count += 1
    return count


def _index(graph: Graph, node: onnx.NodeProto) -> int:
    return next(index for index, other in enumerate(graph.nodes) if other is node)
