"""The smallest and largest value of every float tensor: they decide whether it fits into float16."""

from __future__ import annotations

from collections.abc import Mapping

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer, Tensors
from xxdeploy.quantize.calibration.images import Batches, check_finite, map_images, single_images
from xxdeploy.results import OnProgress, Progress, Ranges


def observe_extremes(
    model: OnnxModel,
    batches: Batches,
    *,
    data_digest: str = "",
    total: int | None = None,
    on_progress: OnProgress | None = None,
) -> Ranges:
    """Return the exact range of every float tensor over all images.

    Calibration for INT8 measures the tensors that get a scale; this measures all. Memory holds one image's tensors per
    core.

    Parameters
    ----------
    model
        A float32 graph with one input.
    batches
        Returns preprocessed batches (n, h, w, c) float32.
    data_digest, total
        They are passed on to the result and the progress.

    Raises ``UsageError`` (``no-calibration-images``), ``ConversionError`` (``calibration-run``, ``non-finite-range``).
    """
    graph = Graph(model)
    made = [name for node in graph.nodes for name in node.output if name in graph.floats]
    observer = Observer(graph, dict.fromkeys((*graph.inputs, *made)), threads=1)
    ranges: dict[str, tuple[float, float]] = {}
    images = 0
    for images, extremes in enumerate(map_images(observer, single_images(batches), _extremes), 1):
        for name, (low, high) in extremes.items():
            check_finite(name, low, high)
            known = ranges.get(name, (low, high))
            ranges[name] = min(low, known[0]), max(high, known[1])
        if on_progress is not None:
            on_progress(Progress("ranges", images, total))
    return Ranges("minmax", model.digest, data_digest, images, ranges)


def _extremes(tensors: Tensors) -> Mapping[str, tuple[float, float]]:
    return {name: (float(values.min()), float(values.max())) for name, values in tensors.items() if values.size}
