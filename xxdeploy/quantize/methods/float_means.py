"""Means inside the float network: of each channel, what methods steer towards, and of the inputs of each weight.

The means depend on the float model and the images alone, not on the calibrator, the scheme or the rounding. So one
:class:`FloatMeans` serves all rungs of the ladder and the files for all processors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer, Tensors
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import Batches, map_images, single_images
from xxdeploy.quantize.methods.moments import has_patches, look_at_patches

with extra("export"):
    from onnx import helper

Means = NDArray[np.float64]


class FloatMeans:
    """Measures the means of a float ``model`` on ``batches``, each tensor and each layer once."""

    def __init__(self, model: OnnxModel, batches: Batches) -> None:
        self._model, self._batches = model, batches
        self._known: dict[str, Means] = {}
        self._inputs: dict[str, Means] = {}
        self._patches: dict[str, Means] = {}

    def __call__(self, outputs: Sequence[str]) -> Mapping[str, Means]:
        """Return the mean of each channel (axis 1) of each of ``outputs``, image by image (images, channels).

        Raises ``UsageError`` (``no-calibration-images``), ``ConversionError`` (``calibration-run``).
        """
        unknown = [name for name in outputs if name not in self._known]

        if unknown:
            graph = Graph(self._model)
            pooled = _pool(graph, unknown)

            def look(tensors: Tensors) -> list[Means]:
                return [channel_means(tensors[name]) for name in pooled]

            observer = Observer(graph, pooled, threads=1)
            by_image = list(map_images(observer, single_images(self._batches), look))
            for name, means in zip(unknown, zip(*by_image, strict=True), strict=True):
                self._known[name] = np.concatenate(means)
        return {name: self._known[name] for name in outputs}

    def of_inputs(self, outputs: Sequence[str]) -> Mapping[str, Means]:
        """Return the mean of what each weight is multiplied with, over all images and positions, (groups, taps).

        The keys are those of ``outputs`` whose layer :func:`has_patches` supports. Errors as :meth:`__call__`.
        """
        graph = Graph(self._model)
        layers = [(graph.producers()[name], name) for name in outputs]
        found = [(node, graph.constants[node.input[1]], name) for node, name in layers if name not in self._inputs]
        unknown = [each for each in found if has_patches(*each[:2])]

        def look(tensors: Tensors) -> list[NDArray[np.float32]]:
            return [
                look_at_patches(node, weights, tensors[node.input[0]], images=0, seed=(0,)).means
                for node, weights, _ in unknown
            ]

        if unknown:
            observer = Observer(graph, dict.fromkeys(str(node.input[0]) for node, _, _ in unknown), threads=1)
            sums = [np.zeros(1)] * len(unknown)
            images = 0
            for images, by_layer in enumerate(map_images(observer, single_images(self._batches), look), 1):  # noqa: B007
                sums = [total + means[0] for total, means in zip(sums, by_layer, strict=True)]
            self._inputs |= {name: total / images for (_, _, name), total in zip(unknown, sums, strict=True)}
        return {name: self._inputs[name] for name in outputs if name in self._inputs}


def _pool(graph: Graph, outputs: Sequence[str]) -> list[str]:
    """Let ``graph`` compute the means of ``outputs`` over their positions; return what to fetch for each.

    Of a convolution's output (1, channels, ...) one value a channel is fetched: the whole tensors of ResNet50 are 44 MB
    an image. The output of a Gemm has no positions.
    """
    fetched, added = [], []
    for name in outputs:
        if graph.producers()[name].op_type == "Conv":
            added.append(helper.make_node("GlobalAveragePool", [name], [graph.fresh(f"{name}_mean")]))
            fetched.append(str(added[-1].output[0]))
        else:
            fetched.append(name)
    graph.nodes = [*graph.nodes, *added]
    return fetched


def channel_means(values: NDArray[np.float32]) -> Means:
    """Return the mean of each channel of ``values`` (n, channels, ...), image by image (n, channels)."""
    means: Means = values.reshape(*values.shape[:2], -1).mean(axis=2, dtype=np.float64)
    return means
