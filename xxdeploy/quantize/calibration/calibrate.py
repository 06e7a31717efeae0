"""Calibration: find the range of each tensor on real images.

Images go through the float graph one by one, whatever the caller's batches are. The result is one distribution of
fixed size per tensor: memory depends on the network and the processor's cores, not on the number of images. One pass
serves all calibrators.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer, Tensors
from xxdeploy.quantize.calibration.cache import Checkpoint, Keeper
from xxdeploy.quantize.calibration.calibrators import calibrator
from xxdeploy.quantize.calibration.collect import Distribution, measure
from xxdeploy.quantize.calibration.histograms import Histograms, choose_ranges
from xxdeploy.quantize.calibration.images import Batches, map_images, single_images
from xxdeploy.quantize.placement import check_float_graph, plan_layout
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import OnProgress, Progress, Ranges
from xxdeploy.results.values import check_finite

log = logging.getLogger(__name__)


def calibrate(
    model: OnnxModel,
    images: Batches,
    *,
    method: str = "minmax",
    data_digest: str,
    on_progress: OnProgress | None = None,
) -> Ranges:
    """Run ``images`` through the float ``model`` and return the range of each tensor that is to be INT8.

    ``method`` is a name in :mod:`xxdeploy.quantize.calibration.calibrators`. To try several, call
    :func:`observe_histograms` once and :func:`~xxdeploy.quantize.calibration.histograms.choose_ranges` for each. The
    other arguments and errors are those of :func:`observe_histograms`, and ``UsageError`` (``unknown-calibrator``).
    """
    calibrator(method)  # refuse an unknown one before the work
    return choose_ranges(observe_histograms(model, images, data_digest=data_digest, on_progress=on_progress), method)


def observe_histograms(
    model: OnnxModel,
    images: Batches,
    *,
    data_digest: str,
    total: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_progress: OnProgress | None = None,
) -> Histograms:
    """Run ``images`` through the float ``model`` and return the distribution of each tensor that is to be INT8.

    Images are spread over the cores that the process may use, and merged in order: the result does not depend on the
    number of cores. ``data_digest`` identifies the images and their preprocessing; ``total``, the number of images, is
    passed on to the progress. With a ``checkpoint``, a run that was killed continues and ends with the same bits; it
    reads the images that it had seen again, but does not run them. Raises ``UsageError`` (``no-calibration-images``,
    ``already-quantized``), ``ConversionError`` (``non-finite-weights``, ``non-finite-range``, ``calibration-run``,
    ``nothing-to-quantize``, ``opset-too-old``).
    """
    graph = Graph(model)
    check_float_graph(graph)
    names = plan_layout(graph, Scheme()).measured
    digest = model.digest
    keeper = None if checkpoint is None else Keeper(checkpoint, digest, data_digest, names)
    kept = None if keeper is None else keeper.load()
    seen, tensors = (0, {}) if kept is None else (kept.images, dict(kept.tensors))
    unseen = itertools.islice(single_images(images), seen, None)
    for distributions in map_images(Observer(graph, names, threads=1), unseen, _measure):
        for name, values in distributions.items():
            tensors[name] = tensors[name].merged(values) if name in tensors else values
        seen += 1
        if keeper is not None:
            keeper.keep(Histograms(digest, data_digest, seen, tensors))
        if on_progress is not None:
            on_progress(Progress("calibrate", seen, total))
    log.info("measured %d tensors on %d images", len(tensors), seen)
    if keeper is not None:
        keeper.drop()
    return Histograms(digest, data_digest, seen, tensors)


def _measure(tensors: Tensors) -> dict[str, Distribution]:
    distributions = {name: measure(values) for name, values in tensors.items()}
    for name, distribution in distributions.items():
        check_finite(name, distribution.low, distribution.high)
    return distributions


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
    core. ``model`` has one input; ``data_digest`` is passed on to the result, ``total`` to the progress.

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
