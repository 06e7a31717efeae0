"""Calibration: find the range that each tensor takes on real images.

Streaming: images go through the float graph one by one, whatever the caller's batches are, and of every tensor only a
distribution of fixed size stays behind. Memory depends on the network and the processor's cores, not on the number of
images. One pass serves every calibrator.
"""

from __future__ import annotations

import itertools
import logging

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer, Tensors
from xxdeploy.quantize.calibration.calibrators import METHODS, calibrator
from xxdeploy.quantize.calibration.checkpoint import Checkpoint, Keeper
from xxdeploy.quantize.calibration.collect import Distribution, measure
from xxdeploy.quantize.calibration.histograms import Histograms, choose_ranges
from xxdeploy.quantize.calibration.images import Batches, check_finite, map_images, single_images
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.qdq import check_float_graph
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import OnProgress, Progress, Ranges

__all__ = ["METHODS", "calibrate", "observe_histograms"]

log = logging.getLogger(__name__)


def calibrate(
    model: OnnxModel,
    images: Batches,
    *,
    method: str = "minmax",
    data_digest: str,
    total: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_progress: OnProgress | None = None,
) -> Ranges:
    """Run ``images`` through the float ``model`` and return the range of each tensor that INT8 needs.

    ``method`` is one of :data:`METHODS`. To try several, call :func:`observe_histograms` once and
    ``quantize.calibration.histograms.choose_ranges`` for each. The other arguments and the errors are those of
    :func:`observe_histograms`, and ``unknown-calibrator`` (UsageError).
    """
    calibrator(method)  # an unknown one is refused before the work
    found = observe_histograms(
        model, images, data_digest=data_digest, total=total, checkpoint=checkpoint, on_progress=on_progress
    )
    return choose_ranges(found, method)


def observe_histograms(
    model: OnnxModel,
    images: Batches,
    *,
    data_digest: str,
    total: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_progress: OnProgress | None = None,
) -> Histograms:
    """Run ``images`` through the float ``model`` and return the distribution of each tensor that INT8 needs.

    Images are spread over the cores that the process may use, and taken in order: the result does not depend on how
    many there are. ``data_digest`` names the images and their preprocessing; ``total`` is how many there are, for
    whoever draws the progress. With a ``checkpoint`` a run that was killed goes on, and ends with the very same bits;
    the images that it had seen are read again, but not run.

    Raises
    ------
    UsageError
        ``no-calibration-images``, ``already-quantized``.
    ConversionError
        ``non-finite-weights``, ``non-finite-range``, ``calibration-run``, ``nothing-to-quantize``, ``opset-too-old``.
    """
    graph = Graph(model)
    check_float_graph(graph)
    names = plan_layout(graph, Scheme()).measured
    digest = model.digest
    keeper = None if checkpoint is None else Keeper(checkpoint, digest, data_digest, names)
    kept = None if keeper is None else keeper.load()
    seen, tensors = (0, {}) if kept is None else (kept.images, dict(kept.tensors))
    unseen = itertools.islice(single_images(images), seen, None)
    for found in map_images(Observer(graph, names, threads=1), unseen, _measure):
        for name, values in found.items():
            tensors[name] = tensors[name].merged(values) if name in tensors else values
        seen += 1
        if keeper is not None:
            keeper.keep(Histograms(digest, data_digest, seen, tensors))
        if on_progress is not None:
            on_progress(Progress("calibrate", seen, total))
    log.info("saw %d tensors on %d images", len(tensors), seen)
    if keeper is not None:
        keeper.drop()
    return Histograms(digest, data_digest, seen, tensors)


def _measure(tensors: Tensors) -> dict[str, Distribution]:
    found = {name: measure(values) for name, values in tensors.items()}
    for name, each in found.items():
        check_finite(name, each.low, each.high)
    return found
