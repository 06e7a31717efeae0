"""A pair that repeats the one before it: what was uint8 on a grid is read again from where it was."""

from __future__ import annotations

from xxdeploy.runtime.engines.openvino.passes.nodes import Graph, dequantized, is_uint8, kind, quantizing_grid, users


def drop_repeated_pairs(graph: Graph) -> int:
    """Take DequantizeLinear and QuantizeLinear of one grid out; return how many pairs.

    ONNX Runtime needs the second pair of an image (its convolution takes what QuantizeLinear wrote), OpenVINO copies
    the picture for it: 0.04 ms at 224 pixels.
    """
    dropped = 0
    for node in graph.of_kind("FakeQuantize"):
        if (before := dequantized(node.input_value(0).get_node())) is None or (grid := quantizing_grid(node)) is None:
            continue
        readers = users(node)
        if not before.grid.is_like(grid) or any(
            kind(each) != "Convert" or not is_uint8(each.output(0)) for each in readers
        ):
            continue
        for reader in readers:
            reader.output(0).replace(before.source)
        dropped += 1
    return dropped
