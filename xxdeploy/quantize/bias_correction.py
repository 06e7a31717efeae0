"""Sequential empirical bias correction.

Rounding weights and clipping activations move the mean of a layer's output, and the layers behind it add that up. With
``y`` a layer's output in the float network and ``y'`` its output in the quantised one, both before the activation, and
the expectation over images and positions for each channel ``c``::

    b_c  <-  b_c + E[y_c] - E[y'_c]

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv:1906.04721, section
4.2 and appendix D (empirical); Finkelstein et al. 2019, "Fighting Quantization Bias With Bias", arXiv:1906.03193. One
layer after the other, so that each is measured behind predecessors that are corrected already.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from xxdeploy.artifacts import OnnxModel, OnProgress, Progress, Ranges
from xxdeploy.optional import extra
from xxdeploy.quantize.calibrate import Batches, no_images
from xxdeploy.quantize.graph_view import GraphView
from xxdeploy.quantize.layout import plan_layout
from xxdeploy.quantize.observe import Observer
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.staged import StagedRun
from xxdeploy.quantize.support import weight_axis

with extra("export"):
    from onnx import ModelProto, NodeProto

log = logging.getLogger(__name__)


def correct_biases(
    model: OnnxModel,
    ranges: Ranges,
    scheme: Scheme,
    batches: Batches,
    *,
    on_progress: OnProgress | None = None,
) -> OnnxModel:
    """Return the float ``model`` with biases that make up for what ``scheme`` will do to it.

    The result is to be quantised with the same ``ranges`` and ``scheme``; in float it is a little off on purpose. About
    a hundred images are enough, since every position of every image counts. A convolution without bias gets one; a
    MatMul cannot have one and is left alone.

    Raises
    ------
    UsageError
        ``no-calibration-images``.
    ConversionError
        As :func:`xxdeploy.quantize.quantize` and :func:`xxdeploy.quantize.calibrate`.
    """
    model = give_biases(model, scheme)
    view = GraphView.of(model)
    layers = _layers(view, scheme)
    expected = _float_means(view, [node.output[0] for node in layers], batches)
    integer = GraphView.of(quantize(model, ranges, scheme))
    constants = dict(integer.constants)
    biases: dict[str, NDArray[np.float32]] = {}
    outputs = [_output(integer, node) for node in layers]
    staged = StagedRun(integer, outputs, batches())
    for stage, node in enumerate(layers):
        sums = staged.advance(stage, constants, _channel_sums)
        shift = expected[node.output[0]] - sum(each for each, _ in sums) / sum(count for _, count in sums)
        bias = (view.constants[node.input[2]] + shift).astype(np.float32)
        biases[node.input[2]] = bias
        pair = integer.producers[integer.producers[outputs[stage]].input[2]]
        steps = np.rint(bias / constants[pair.input[1]].astype(np.float64))
        constants[pair.input[0]] = np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)
        log.debug("bias of %s: mean shift %.4g", node.output[0], float(np.abs(shift).mean()))
        if on_progress is not None:
            on_progress(Progress("correct biases", stage + 1, len(layers)))
    return OnnxModel.join(view.proto, {**view.arrays, **biases})


def give_biases(model: OnnxModel, scheme: Scheme) -> OnnxModel:
    """Return ``model`` with a bias (channels,) of its own, ``OUTPUT_bias``, in each layer that will be corrected."""
    view = GraphView.of(model)
    layers = {node.output[0] for node in _layers(view, scheme)}
    proto = ModelProto()
    proto.CopyFrom(view.proto)
    arrays = dict(view.arrays)
    for node in proto.graph.node:
        if node.output[0] not in layers:
            continue
        channels = view.constants[node.input[1]].shape[weight_axis(node)]
        old = view.constants[node.input[2]].reshape(-1) if len(node.input) > 2 and node.input[2] else None
        del node.input[2:]
        node.input.append(f"{node.output[0]}_bias")
        arrays[node.input[2]] = np.zeros(channels, np.float32) if old is None else old
    used = {name for node in proto.graph.node for name in node.input}
    return OnnxModel.join(proto, {name: array for name, array in arrays.items() if name in used})


def _layers(view: GraphView, scheme: Scheme) -> list[NodeProto]:
    """Return the integer layers that can have a bias, in graph order."""
    integer = plan_layout(view, scheme).layers
    return [node for node in view.nodes if node.op_type in ("Conv", "Gemm") and node.output[0] in integer]


def _float_means(view: GraphView, outputs: list[str], batches: Batches) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each tensor of the float graph, for each channel (axis 1)."""
    observer = Observer(view, outputs)
    totals: dict[str, NDArray[np.float64]] = {}
    counts = dict.fromkeys(outputs, 0)
    for batch in batches():
        for index in range(len(batch)):
            values = observer.run(batch[index : index + 1])
            for name in outputs:
                total, count = _channel_sums(values[name])
                totals[name] = totals.get(name, np.zeros(total.shape)) + total
                counts[name] += count
    if not totals:
        raise no_images()
    return {name: total / counts[name] for name, total in totals.items()}


def _channel_sums(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
    """Return the sum for each channel of ``values`` (n, channels, ...), and how many values went into each."""
    rows = values.reshape(*values.shape[:2], -1)
    return rows.sum(axis=2).sum(axis=0, dtype=np.float64), rows.shape[0] * rows.shape[2]


def _output(integer: GraphView, node: NodeProto) -> str:
    """Return what the output of a float layer is called in the integer graph."""
    name: str = node.output[0]
    return f"{name}_float" if integer.producers[name].op_type == "DequantizeLinear" else name
