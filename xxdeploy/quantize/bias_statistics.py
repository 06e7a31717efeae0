"""Bias correction without data: make up for the mean shift that rounded weights cause.

Nagel et al. 2019, arXiv:1906.04721, section 4.2. With ``e = W' - W`` the rounding of a layer's weights, its output
shifts by ``e x``, and on average by ``e E[x]``; so the bias becomes ``b - e E[x]``. ``E[x]`` of each input channel
follows from the batch normalisation before it (:mod:`xxdeploy.quantize.normal_moments`).

The empirical correction (:mod:`xxdeploy.quantize.bias_correction`) measures what this predicts, and more: the rounding
of activations, zeros at the borders, layers without a normalisation before them. This one needs no image and no run.
One or the other: an empirical correction behind this one would take its biases for what they should be.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from xxdeploy.artifacts import OnnxModel, Ranges
from xxdeploy.optional import extra
from xxdeploy.quantize.equalize import grouped_weights
from xxdeploy.quantize.graph_view import GraphView, layer_name
from xxdeploy.quantize.integers import integer_weights
from xxdeploy.quantize.layout import plan_layout
from xxdeploy.quantize.normal_moments import Moments, propagate
from xxdeploy.quantize.qdq import activation_grids, check_float_graph
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.support import weight_axis

with extra("export"):
    from onnx import ModelProto

log = logging.getLogger(__name__)


def correct_biases_from_statistics(
    model: OnnxModel, ranges: Ranges, scheme: Scheme, statistics: Mapping[str, Moments]
) -> OnnxModel:
    """Return the float ``model`` with biases that make up for the rounding of its weights by ``scheme``.

    ``statistics`` maps the name of a layer to mean and standard deviation (channels,) of what its normalisation
    writes. They must belong to this very graph: equalization scales channels, so it comes after, or is left out.
    A layer whose input nothing is known about keeps its bias; the log says which.

    Raises
    ------
    UsageError, ConversionError
        As :func:`xxdeploy.quantize.quantize`.
    """
    view = GraphView.of(model)
    check_float_graph(view)
    layout = plan_layout(view, scheme)
    grids = activation_grids(layout, ranges, scheme)
    moments = propagate(view, statistics)
    proto, arrays = ModelProto(), dict(view.arrays)
    proto.CopyFrom(view.proto)
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "Gemm") or node.output[0] not in layout.layers:
            continue
        weights = view.constants[node.input[1]]
        groups, outputs, members, _ = grouped_weights(view, node).shape
        old = view.constants[node.input[2]].reshape(-1) if len(node.input) > 2 and node.input[2] else None
        bias = np.zeros(groups * outputs, np.float32) if old is None else old
        if node.input[0] not in moments or moments[node.input[0]][0].size != groups * members:
            log.info("bias of %s kept: nothing is known about its input", layer_name(node))
            continue
        axis = weight_axis(node)
        scale = float(grids[layout.scale_of[node.input[0]]].scale)
        integers = integer_weights(weights, axis, scheme, bias=bias, input_scale=scale)
        steps = integers.scale.reshape([-1 if each == axis else 1 for each in range(weights.ndim)])
        error = integers.values * steps.astype(np.float64) - weights
        by_member = np.moveaxis(error, axis, 0).reshape(groups, outputs, members, -1).sum(axis=3)
        mean = moments[node.input[0]][0].reshape(groups, members)
        shift = np.einsum("gom,gm->go", by_member, mean).reshape(-1)
        del node.input[2:]
        node.input.append(f"{node.output[0]}_bias")
        arrays[node.input[2]] = (bias - shift).astype(np.float32)
        log.debug("bias of %s: mean shift %.4g", layer_name(node), float(np.abs(shift).mean()))
    used = {name for node in proto.graph.node for name in node.input}
    return OnnxModel.join(proto, {name: array for name, array in arrays.items() if name in used})
