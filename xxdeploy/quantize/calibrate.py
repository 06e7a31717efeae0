"""Calibration: find the range that each tensor takes on real images.

Streaming: images go through the float graph one by one, whatever the caller's batches are, and of every tensor only a
collector of fixed size stays behind. Memory depends on the network, not on the number of images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from xxdeploy.artifacts import OnnxModel, OnProgress, Progress, Ranges
from xxdeploy.errors import UsageError
from xxdeploy.quantize.collect import Collector, MinMax, Percentile
from xxdeploy.quantize.graph_view import GraphView
from xxdeploy.quantize.layout import plan_layout
from xxdeploy.quantize.observe import Observer
from xxdeploy.quantize.qdq import check_float_graph
from xxdeploy.quantize.scheme import Scheme

log = logging.getLogger(__name__)

Batches = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives preprocessed batches (n, h, w, c) float32, each of any n, from the first image on at every call."""

METHODS = "minmax, percentile-P (P from 50 to 100, such as percentile-99.99)"


def calibrate(
    model: OnnxModel,
    images: Batches,
    *,
    method: str = "minmax",
    data_digest: str,
    on_progress: OnProgress | None = None,
) -> Ranges:
    """Run ``images`` through the float ``model`` and return the range of each tensor that INT8 needs.

    ``method`` is one of :data:`METHODS`. ``data_digest`` names the images and their preprocessing in the result.

    Raises
    ------
    UsageError
        ``unknown-calibrator``, ``no-calibration-images``, ``already-quantized``.
    ConversionError
        ``non-finite-weights``, ``non-finite-range``, ``calibration-run``, ``nothing-to-quantize``, ``opset-too-old``.
    """
    collector = _collector(method)
    view = GraphView.of(model)
    check_float_graph(view)
    observer = Observer(view, plan_layout(view, Scheme()).measured)
    collectors = {name: collector() for name in observer.tensors}
    seen = 0
    for batch in images():
        for index in range(len(batch)):
            values = observer.run(batch[index : index + 1])
            for name, each in collectors.items():
                each.add(values[name])
            seen += 1
            if on_progress is not None:
                on_progress(Progress("calibrate", seen))
    if not seen:
        raise no_images()
    log.info("calibrated %d tensors on %d images (%s)", len(collectors), seen, method)
    return Ranges(
        method=method,
        model_digest=model.digest,
        data_digest=data_digest,
        images=seen,
        ranges={name: each.range() for name, each in collectors.items()},
    )


def no_images() -> UsageError:
    """Return the error for a set of images that turns out to be empty."""
    return UsageError(
        "there is not one calibration image",
        hint="give a folder with a few hundred images of the kind that the model will see",
        code="no-calibration-images",
    )


def _collector(method: str) -> Callable[[], Collector]:
    """Return what makes a fresh collector for ``method``."""
    kind, _, parameter = method.partition("-")
    if method == "minmax":
        return MinMax
    if kind == "percentile":
        try:
            percent = float(parameter)
        except ValueError:
            percent = -1.0
        if 50 < percent <= 100:
            return lambda: Percentile(percent)
    raise UsageError(f"unknown calibration method {method!r}", hint=f"methods: {METHODS}", code="unknown-calibrator")
