"""How far the inputs of integer layers reach on some images: most pairs of weights cannot overflow there.

A pair overflows 16 bits only if both of its inputs are large. After a Relu few channels come near 255, so on given
images most pairs that overflow for some input cannot. An emulation without them is exact as long as no input exceeds
its reach, and its guard says so. Of ResNet50 with random weights 2.9 million pairs can overflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import GraphSession, feeds_of
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import Batches

with extra("export"):
    from onnx import NodeProto, TensorProto, ValueInfoProto, helper

if TYPE_CHECKING:
    from xxdeploy.quantize.x86.saturation import IntegerLayer

Reach = Mapping[str, NDArray[np.float64]]
"""By the output of a layer, the largest stored input (0..255) of each of its input channels; of a matrix one number."""

HARMLESS = 129.0
"""Two inputs up to this, times two weights up to 127, fit into 16 bits: 2 * 129 * 127 = 32766."""
_MARGIN, _MORE = 1.5, 12.0
"""Layers that read saturated sums see other values than in the exact graph: their reach is so much larger."""


def observe_reach(int8: OnnxModel, layers: Mapping[str, IntegerLayer], batches: Batches) -> Reach:
    """Return the reach of ``layers``, by their output, on preprocessed images (n, h, w, c), with a margin.

    Raises ``ConversionError`` (``calibration-run``: a batch does not fit the graph).
    """
    proto, arrays = int8.split()
    names = {output: f"{output}_reach" for output in layers}
    for output, layer in layers.items():
        proto.graph.node.extend(_largest(layer, names[output]))
    del proto.graph.output[:]
    proto.graph.output.extend(ValueInfoProto(name=name) for name in names.values())
    session, inputs = GraphSession(proto, arrays), list(proto.graph.input)
    largest = dict.fromkeys(layers, np.zeros(()))
    for batch in batches():
        for output, values in zip(layers, session.run(list(names.values()), feeds_of(inputs, batch)), strict=True):
            largest[output] = np.maximum(largest[output], values.astype(np.float64) + _shift(layers[output]))
    zeros = {output: float(layer.input_zero) + _shift(layer) for output, layer in layers.items()}
    return {
        output: np.clip(np.maximum(np.ceil(_MARGIN * values) + _MORE, zeros[output]), HARMLESS, 255)
        for output, values in largest.items()
    }


def guard(layers: Mapping[str, IntegerLayer], reach: Reach, output: str) -> tuple[list[NodeProto], dict[str, Any]]:
    """Return nodes that write to ``output`` by how much an input exceeds its reach (0 or less: none does).

    The second value holds their initializers, by name.
    """
    nodes: list[NodeProto] = []
    arrays, beyond = dict[str, Any](), list[str]()
    for name, layer in layers.items():
        stem = f"{name}_guard"
        nodes += _largest(layer, stem)
        arrays[f"{stem}_reach"] = np.asarray(reach[name] - _shift(layer), np.float32)
        beyond.append(f"{stem}_beyond")
        nodes.append(helper.make_node("Sub", [stem, f"{stem}_reach"], [f"{stem}_excess"], name=f"{stem}_excess"))
        nodes.append(helper.make_node("ReduceMax", [f"{stem}_excess"], [beyond[-1]], name=beyond[-1], keepdims=0))
    nodes.append(helper.make_node("Max", beyond, [output], name=output))
    return nodes, arrays


def poison(nodes: Sequence[NodeProto], outputs: Sequence[str], beyond: str) -> tuple[list[NodeProto], dict[str, Any]]:
    """Return ``nodes`` with outputs of NaN where ``beyond`` is above 0, and the initializers that this needs."""
    written = {name: f"{name}_unguarded" for name in outputs}
    changed = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = written.get(node.name, node.name)  # a quantizer is named after the output that it writes
        copy.input[:] = [written.get(name, name) for name in node.input]
        copy.output[:] = [written.get(name, name) for name in node.output]
        changed.append(copy)
    changed.append(helper.make_node("Greater", [beyond, f"{beyond}_zero"], [f"{beyond}_is"], name=f"{beyond}_is"))
    for name, source in written.items():
        changed.append(helper.make_node("Where", [f"{beyond}_is", f"{beyond}_nan", source], [name], name=name))
    return changed, {f"{beyond}_zero": np.float32(0).reshape(()), f"{beyond}_nan": np.full((), np.nan, np.float32)}


def _largest(layer: IntegerLayer, output: str) -> list[NodeProto]:
    """Return nodes that write the largest stored input of each channel of a layer; of a matrix, of all."""
    number = f"{output}_number"
    axes: dict[str, Any] = {"axes": [0, *range(2, layer.values.ndim)]} if layer.node.op_type == "Conv" else {}
    return [
        helper.make_node("Cast", [layer.source], [number], name=number, to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", [number], [output], name=output, keepdims=0, **axes),
    ]


def _shift(layer: IntegerLayer) -> int:
    """Return what the kernels add to the stored integer."""
    return 128 if layer.input_zero.dtype == np.int8 else 0
