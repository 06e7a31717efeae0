"""Compute only the pixels that downstream layers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from xxdeploy.onnxmodel.graph import Graph, Shape, attribute, set_attribute

_POINTWISE = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish")


def push_strides(graph: Graph) -> int:
    """Move strides of 1x1 convolutions up to the layers that write their input; return how many moved.

    The first layers of a stage of ResNet (He et al. 2016, arXiv:1512.03385, table 1) are two 1x1 convolutions with
    stride 2, and nothing else reads the previous stage: three of four of its last pixels are never used. The stride
    moves up through the activation, into both operands of the sum, through the 1x1 convolution of the block and into
    its 3x3 one. That saves a tenth of the products of ResNet50, and the outputs stay the same. An operand that other
    layers read whole is subsampled by a MaxPool of one pixel. A subsampled tensor gets a new name, as it is no layer's
    output any more. (OpenVINO does so, too, and leaves those convolutions in float.)
    """
    shapes = graph.shapes()
    count = 0
    while _push(graph, shapes):
        count += 1
    return count


def _push(graph: Graph, shapes: Mapping[str, Shape]) -> bool:
    """Move one stride up by one node, starting from the end of the graph."""
    producers, consumers = graph.producers(), graph.consumers()
    for node in reversed(graph.nodes):
        output = node.output[0]
        readers = consumers.get(output, [])
        steps = {_step(graph, reader, output) for reader in readers}
        if output in graph.kept or len(node.output) != 1 or len(steps) != 1 or not all(steps):
            continue
        step = steps.pop()
        inputs = [name for name in node.input if name and name not in graph.arrays]
        alone = [len(consumers.get(name, ())) == 1 and name not in graph.kept for name in inputs]
        if node.op_type == "Conv" and attribute(node, "auto_pad", "NOTSET") == "NOTSET":
            set_attribute(node, "strides", [stride * step for stride in attribute(node, "strides", [1, 1])])
        elif _may_be_thinned(node, inputs, alone, producers, shapes):
            _thin_out(graph, node, inputs, step)
        else:
            continue
        renamed = graph.fresh(f"{output}/strided")
        node.output[0] = renamed
        names = {output: renamed}
        for reader in readers:
            if reader.op_type == "MaxPool":
                graph.remove([reader])
                names[reader.output[0]] = renamed
            else:
                set_attribute(reader, "strides", [1, 1])
        graph.rewire(names)
        return True
    return False


def _step(graph: Graph, node: onnx.NodeProto, read: str) -> int:
    """Return the stride of a node that reads single pixels of ``read``, the same along both axes; else 0."""
    strides = attribute(node, "strides", [1, 1])
    if len(strides) != 2 or strides[0] != strides[1] or strides[0] == 1 or any(attribute(node, "pads", [0])):
        return 0
    if node.op_type == "Conv":
        weights = graph.arrays.get(node.input[1])
        kernel = None if weights is None or node.input[0] != read else weights.shape[2:]
    elif node.op_type == "MaxPool" and len(node.output) == 1 and node.output[0] not in graph.kept:
        kernel = tuple(attribute(node, "kernel_shape", []))
    else:
        kernel = None
    return int(strides[0]) if kernel == (1, 1) else 0


def _may_be_thinned(
    node: onnx.NodeProto,
    inputs: Sequence[str],
    alone: Sequence[bool],
    producers: Mapping[str, onnx.NodeProto],
    shapes: Mapping[str, Shape],
) -> bool:
    """Tell whether a node works pixel by pixel, and an input is computed for it alone."""
    if node.op_type in _POINTWISE:
        return alone == [True]
    sizes = {shapes.get(name, ())[1:] for name in inputs}
    plain = len(inputs) == 2 and len(sizes) == 1 and all(len(size) == 3 and None not in size for size in sizes)
    made = [producers[name].op_type if name in producers else "" for name in inputs]
    saved = any(only and kind in ("Conv", *_POINTWISE) for only, kind in zip(alone, made, strict=True))
    return node.op_type == "Add" and plain and saved


def _thin_out(graph: Graph, node: onnx.NodeProto, inputs: Sequence[str], step: int) -> None:
    """Put a MaxPool of one pixel before ``node``; later it may move up itself."""
    thin = {name: graph.fresh(f"{name}/every_{step}") for name in dict.fromkeys(inputs)}
    at = graph.position(node)
    graph.nodes[at:at] = [
        onnx.helper.make_node("MaxPool", [name], [into], into, kernel_shape=[1, 1], strides=[step, step])
        for name, into in thin.items()
    ]
    node.input[:] = [thin.get(name, name) for name in node.input]


def thin_out_reads(graph: Graph) -> int:
    """Replace the stride of 1x1 convolutions by a MaxPool of one pixel, with equal results in INT8; return how many.

    Otherwise OpenVINO leaves some of them in float (the shortcuts of Xception: 0.94x for the whole network).
    """
    count = 0
    for node in list(graph.nodes):
        step = _step(graph, node, node.input[0]) if node.op_type == "Conv" else 0
        if step:
            _thin_out(graph, node, [node.input[0]], step)
            set_attribute(node, "strides", [1, 1])
            count += 1
    return count
