"""Bias correction, analytic and empirical.

Rounding weights and clipping activations move the mean of a layer's output, and the errors add up downstream. With
``y`` a layer's output in the float network and ``y'`` its output in the quantized one, both before the activation, and
the expectation over images and positions for each channel ``c``::

    b_c  <-  b_c + E[y_c] - E[y'_c]

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv:1906.04721, section
4.2 and appendix D (empirical); Finkelstein et al. 2019, "Fighting Quantization Bias With Bias", arXiv:1906.03193.

The analytic correction removes the part that the rounding of this layer's weights causes, which needs the float
network alone (Nagel et al., section 4.2; they take ``E[x]`` from batch normalization, here it is measured)::

    b_c  <-  b_c + (W - W') E[x]

It has next to no noise: on MobileNetV2, whose empirical correction adds more than it removes, it changes nothing
(KL 0.0035 nats, against 0.0048), and it takes most of what the empirical one does from MobileNet (0.071 to 0.0034 and
to 0.0031) and from a MobileNetV2 without overflow (0.0226 to 0.0045 and to 0.0052).

The expectation of the empirical correction is estimated from few images, and the plain mean is a bad estimate if
activations have heavy tails: one image with clipped outliers moves it and makes all others worse. (NASNetMobile on
CIFAR-10, images outside the calibration set: 95.5 % agreement before, 78.3 % after correcting by the plain mean, 95.8 %
by this estimate.) So both networks see the same images, the difference is taken image by image, a tenth of the images
at either end is left out (trimmed mean), and the result is shrunk by its own uncertainty (James and Stein 1961,
positive part).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.policy import weight_axis
from xxdeploy.quantize.scheme import Scheme

with extra("export"):
    from onnx import NodeProto

TRIMMED = 0.1
"""Share of the images that is left out at either end."""


def mean_shift(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correction of each bias (channels,) from ``E[y] - E[y']`` of each image, (images, channels)."""
    images = len(differences)
    cut = int(images * TRIMMED)
    middle = np.sort(differences, axis=0)[cut : images - cut]
    mean = middle.mean(axis=0)
    variance = middle.var(axis=0) / len(middle)
    shrunk: NDArray[np.float64] = mean * np.maximum(
        0.0, 1.0 - variance / np.maximum(mean**2, np.finfo(np.float64).tiny)
    )
    return shrunk


def give_biases(model: OnnxModel, scheme: Scheme) -> OnnxModel:
    """Return ``model`` with a separate bias (channels,), ``OUTPUT_bias``, in each layer that will be corrected."""
    graph = Graph(model)
    layers = {node.output[0] for node in biased_layers(graph, scheme)}
    for node in graph.nodes:
        if node.output[0] not in layers:
            continue
        channels = graph.constants[node.input[1]].shape[weight_axis(node)]
        old = graph.constants[node.input[2]].reshape(-1) if len(node.input) > 2 and node.input[2] else None
        del node.input[2:]
        node.input.append(f"{node.output[0]}_bias")
        graph.arrays[node.input[2]] = np.zeros(channels, np.float32) if old is None else old
    return graph.to_model()


def biased_layers(graph: Graph, scheme: Scheme) -> list[NodeProto]:
    """Return the integer layers that can have a bias, in graph order."""
    integer = plan_layout(graph, scheme).layers
    return [node for node in graph.nodes if node.op_type in ("Conv", "Gemm") and node.output[0] in integer]
