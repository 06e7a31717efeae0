"""Rank layers by the measured gain of the network's output when they go back to float: for mixed precision.

A layer's own noise (``quantize.measure.sensitivity``) tells where an error arises, not how it affects the output: a
branch can lose its whole signal, and the sum that it ends in hides that (NASNet has dozens of such layers). So the
output is measured, and the layers are found by halving: runs of neighboring layers are tried in float, the run that
removes most of the noise is cut in two, and so on. A network of 500 layers needs about twenty trials for its worst
layer, and the number of trials is bounded.

A layer's weights go back to float with the layer. The rounding of a tensor between two layers stays as long as one of
them is integer. Therefore a run that removes more noise than its halves is tried once more around its middle, and stays
together if that is no better.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer
from xxdeploy.quantize.calibration.images import Batches, single_images
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import OnProgress, Progress, Ranges, decibels

log = logging.getLogger(__name__)

IMAGES = 16
TRIALS = 30

_LITTLE = 0.02
"""A run of layers that removes less than this share of the noise is not divided further."""
_BROKEN = 0.6
"""If the halves remove less than this share of the whole run's noise, the cut separated layers that belong together."""


@dataclass(frozen=True, slots=True)
class LayerGain:
    """The gain of some layers in float together.

    ``layers`` are names for ``Scheme.float_layers``, in graph order. ``output_db`` is the signal-to-noise ratio of the
    network's output with them in float, ``gain_db`` its difference from that of the network as given; in dB.
    """

    layers: tuple[str, ...]
    output_db: float
    gain_db: float


def rank_layers(
    model: OnnxModel,
    ranges: Ranges,
    scheme: Scheme,
    batches: Batches,
    *,
    trials: int = TRIALS,
    images: int = IMAGES,
    build: Callable[[Scheme], OnnxModel] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[LayerGain, ...]:
    """Return the layers that improve the output in float, by the gain per layer, the best first.

    If the network ends in a Softmax, its input is compared, without the mean over the classes, to which a Softmax is
    invariant. Entries overlap, and gains do not add up: take the first, and call again with it in
    ``scheme.float_layers`` to choose the next. The result is empty if no layer helps, or if there is no noise.

    ``model``, ``ranges`` and ``scheme`` are those of :func:`xxdeploy.quantize.quantize`; layers in
    ``scheme.float_layers`` are not tried. Only the first ``images`` images of ``batches`` are used, and at most
    ``trials`` networks are made, which ``build`` returns for a scheme (by default ``quantize``). Biases that were
    corrected for one scheme are wrong for another: ``build`` corrects them, or the caller does after the choice.

    Raises ``UsageError`` (``no-calibration-images``, ``already-quantized``), ``ConversionError`` (as
    :func:`xxdeploy.quantize.quantize`; ``calibration-run``).
    """
    make = build or (lambda asked: quantize(model, ranges, asked))
    sample = np.concatenate(list(itertools.islice(single_images(batches), images)))
    graph = Graph(model)
    integer = plan_layout(graph, scheme).layers
    layers = tuple(layer_name(node) for node in graph.nodes if node.output[0] in integer)
    expected = _Output(model).run(sample)

    def noise(asked: Scheme) -> float:
        return float(np.square(_Output(make(asked)).run(sample) - expected).sum())

    signal, base = float(np.square(expected).sum()), noise(scheme)
    if base == 0 or signal == 0:
        return ()
    log.info("output of the INT8 network: %.2f dB", decibels(signal, base))
    gains: list[LayerGain] = []

    def share(run: range) -> float:
        """Return the share of the output's noise that a run of layers in float removes."""
        names = tuple(layers[index] for index in run)
        try:
            left = noise(replace(scheme, float_layers=scheme.float_layers | set(names)))
        except ConversionError as error:
            if error.code != "nothing-to-quantize":
                raise
            return 0.0  # the run holds all layers with weights: no INT8 is left
        quality, before = decibels(signal, left), decibels(signal, base)
        assert quality is not None  # as there is a signal
        assert before is not None
        if left < base:
            gains.append(LayerGain(names, round(quality, 2), round(quality - before, 2)))
        return 1 - left / base

    _halve(range(len(layers)), share, trials, on_progress)
    return tuple(sorted(gains, key=lambda gain: (-gain.gain_db / len(gain.layers), gain.layers)))


def _halve(whole: range, share: Callable[[range], float], trials: int, on_progress: OnProgress | None) -> None:
    """Divide the most valuable run until ``trials`` are used up; ``share`` is called once for each run."""
    worth: dict[range, float] = {whole: 1.0}
    open_runs, done = [whole], 0

    def tried(run: range) -> float:
        nonlocal done
        if run not in worth:
            if done == trials:
                return 0.0
            worth[run] = share(run)
            done += 1
            if on_progress is not None:
                on_progress(Progress("rank layers", done, trials))
        return worth[run]

    while open_runs and done < trials:
        run = max(open_runs, key=worth.__getitem__)
        open_runs.remove(run)
        if len(run) < 2 or worth[run] < _LITTLE:
            continue
        middle, quarter = len(run) // 2, len(run) // 4
        parts = [run[:middle], run[middle:]]
        if sum(map(tried, parts)) < _BROKEN * worth[run] and len(run) > 2:
            parts.append(run[max(1, quarter) : len(run) - max(1, quarter)] if len(run) > 3 else run[1:])
            tried(parts[-1])
        open_runs.extend(part for part in parts if part in worth)
    if on_progress is not None and done < trials:
        on_progress(Progress("rank layers", trials, trials))


class _Output:
    """A network's output, or the input of the Softmax that it ends in."""

    def __init__(self, model: OnnxModel) -> None:
        graph = Graph(model)
        last = graph.producers().get(graph.outputs[0])
        self._center = last is not None and last.op_type == "Softmax"
        self._name = str(last.input[0]) if last is not None and self._center else graph.outputs[0]
        self._observer = Observer(graph, [self._name])

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the output for images (n, h, w, c), (n, values) float64, one image at a time."""
        rows = [self._observer.run(batch[index : index + 1])[self._name].reshape(1, -1) for index in range(len(batch))]
        values = np.concatenate(rows).astype(np.float64)
        return np.asarray(values - values.mean(axis=1, keepdims=True) if self._center else values)
