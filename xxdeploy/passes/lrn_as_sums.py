"""Write local response normalization as sums, which ONNX Runtime computes five to ten times as fast."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx

from xxdeploy.onnxmodel.graph import Graph, attribute
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.remove_dead import remove_dead
from xxdeploy.runtime.engines.metadata import LRN, roots

LARGEST_WINDOW = 15
"""Most channels in a window, each of which is a slice; papers use five."""
MOST_VALUES, MOST_CHANNELS = 2_000_000, 128
"""Most values of an image for slices: a dozen tensors of VGG11-LRN's first layer, 224 x 224 x 64, took the export over
5 GB. In larger images up to so many channels are added by a product with a band matrix, which needs two tensors."""


def lrn_as_sums(graph: Graph, *, most_values: int = MOST_VALUES, most_channels: int = MOST_CHANNELS) -> int:
    """Turn LRN (Krizhevsky et al. 2012, section 3.3) into a sum of slices and square roots; return how many.

    ONNX Runtime computes LRN in one loop with a power of each value: 20 of GoogLeNet's 33 ms in INT8. The power 3/4 is
    the product of a square root and the square root of that. LRN with other exponents stays. Metadata ``xxdeploy.lrn``
    holds size, alpha, beta and bias by the name of the last node, for engines with a fast LRN. No operator here has an
    integer kernel: in INT8 they stay in float, as LRN does.
    """
    shapes = graph.shapes()
    nodes: list[onnx.NodeProto] = []
    parameters: dict[str, list[float]] = {}
    for node in graph.nodes:
        size, beta = attribute(node, "size", 0), attribute(node, "beta", 0.75)
        alpha, bias = attribute(node, "alpha", 1e-4), attribute(node, "bias", 1.0)
        count = roots(beta) if node.op_type == "LRN" else None
        fits = count is not None and size % 2 == 1 and size <= LARGEST_WINDOW and alpha > 0 and bias > 0
        image = shapes.get(node.input[0], ())[1:]
        large = math.prod(size_ or 0 for size_ in image) > most_values
        if count is None or not fits or len(image) != 3 or (large and not 0 < (image[0] or 0) <= most_channels):
            nodes.append(node)
            continue
        name = (node.name or node.output[0]).removesuffix("/nchw")
        parameters[name] = [size, alpha, beta, bias]
        channels = image[0] if large else None
        nodes += _sums(graph, node, name, size=size, alpha=alpha, bias=bias, count=count, channels=channels)
    graph.nodes = nodes
    if parameters:
        graph.note(LRN, json.dumps(parameters))
    return len(parameters)


def _sums(
    graph: Graph,
    node: onnx.NodeProto,
    name: str,
    *,
    size: int,
    alpha: float,
    bias: float,
    count: int,
    channels: int | None,
) -> list[onnx.NodeProto]:
    """Return the nodes for one LRN: slices, or with ``channels`` a product with a band matrix."""
    source, half, made = node.input[0], size // 2, list[onnx.NodeProto]()

    def add(kind: str, part: str, *inputs: str, output: str | None = None) -> str:
        into = graph.fresh(f"{name}/{part}") if output is None else output
        made.append(onnx.helper.make_node(kind, list(inputs), [into], f"{name}/{part}" if output is None else name))
        return into

    def scalar(part: str, value: float) -> str:
        return graph.add_array(f"{name}/{part}", np.array(value, np.float32))

    def whole(part: str, *values: int) -> str:
        return graph.add_array(f"{name}/{part}", np.array(values, np.int64))

    square = add("Pow", "square", source, scalar("two", 2))
    offset = bias * size / alpha  # bias + alpha / size * sum, with one product less
    if channels is None:
        padded = add("Pad", "padded", square, whole("pads", 0, half, 0, 0, 0, half, 0, 0))
        axis = whole("axis", 1)
        slices = [
            add("Slice", f"from_{at}", padded, whole(f"start_{at}", at), whole(f"end_{at}", end), axis)
            for at, end in enumerate([*range(1 - size, 0), 2**31 - 1])
        ]
        total = add("Sum", "sum", *slices, scalar("bias", offset))
    else:
        # A Conv would be quantized; a ConvTranspose is not.
        near = np.abs(np.subtract.outer(range(channels), range(channels))) <= half
        band = graph.add_array(f"{name}/band", near.astype(np.float32).reshape(channels, channels, 1, 1))
        level = graph.add_array(f"{name}/bias", np.full(channels, offset, np.float32))
        total = add("ConvTranspose", "sum", square, band, level)
    root = add("Div", "scaled", total, scalar("scale", size / alpha))
    quotient = source
    for number in range(1, count + 1):
        root = add("Sqrt", f"root_{number}", root)
        quotient = add("Div", f"over_{number}", quotient, root, output=node.output[0] if number == count else None)
    return made


def whole_lrn(model: OnnxModel) -> OnnxModel:
    """Undo :func:`lrn_as_sums`: return ``model`` with LRN as one operator, for TensorRT."""
    graph = Graph(model)
    noted = graph.take_note(LRN)
    if noted is None:
        return model
    producers = graph.producers()
    for node in graph.nodes:
        if node.name not in (parameters := json.loads(noted)):
            continue
        size, alpha, beta, bias = parameters[node.name]
        source, last = node.input[0], node
        for _ in range((roots(beta) or 1) - 1):
            last = producers[source]
            source = last.input[0]
        values = {"size": int(size), "alpha": alpha, "beta": beta, "bias": bias}
        node.CopyFrom(onnx.helper.make_node("LRN", [source], list(node.output), node.name, **values))
    remove_dead(graph)
    return graph.to_model()
