"""Replace a Reshape's target that is computed from the batch size by a constant.

Keras computes ``(batch, 1, 1, 1024) -> (batch, 1024)`` from ``tf.shape``: Shape, Cast, Slice, Squeeze,
Unsqueeze, Concat. If every other size is known, Reshape infers the computed one from -1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph

_SCALAR_STEPS = ("Cast", "Slice", "Gather", "Squeeze", "Unsqueeze", "Identity", "Reshape")


def fold_reshape(graph: Graph) -> int:
    """Replace targets with exactly one size taken from a Shape; return how many."""
    producers, shapes = graph.producers(), graph.shapes()
    count = 0
    for node in graph.nodes:
        if node.op_type != "Reshape" or node.input[1] in graph.arrays:
            continue
        concat = _skip(producers, node.input[1], ("Cast", "Identity"))
        if concat is None or concat.op_type != "Concat":
            continue
        sizes: list[int] = []
        for part in concat.input:
            if part in graph.arrays:
                sizes.extend(int(size) for size in np.ravel(graph.arrays[part]))
                continue
            source = _skip(producers, part, _SCALAR_STEPS)
            single = shapes.get(part) == (1,)
            sizes.append(-1 if single and source is not None and source.op_type == "Shape" else -2)
        if sizes.count(-1) != 1 or min(sizes) < -1 or 0 in sizes:
            continue
        node.input[1] = graph.add_array(f"{node.name}/target", np.asarray(sizes, np.int64))
        count += 1
    return count


def _skip(producers: Mapping[str, onnx.NodeProto], name: str, steps: tuple[str, ...]) -> onnx.NodeProto | None:
    node = producers.get(name)
    while node is not None and node.op_type in steps:
        node = producers.get(node.input[0])
    return node
