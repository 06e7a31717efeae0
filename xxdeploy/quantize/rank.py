"""Rank layers by what the network gains when they go back to float: measured, for the last resort of mixed precision.

A layer's own noise (:func:`xxdeploy.quantize.sensitivity.layer_noise`) says where error is made, not what becomes of
it: much of it is clipped or averaged away further on. So the noisiest layers are candidates only, and each is tried:
the network is made with that layer in float, and the signal-to-noise ratio of its output is taken. One session a
candidate, so that the cost is bounded however deep the network is.

Weights go back to float with their layer alone. The rounding of a tensor between two layers does not: it stays as long
as one side is integer. So where rounded activations are what hurts, all layers that share the tensor are tried at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xxdeploy.artifacts import LayerNoise, OnnxModel, OnProgress, Progress, Ranges, decibels
from xxdeploy.errors import ConversionError
from xxdeploy.quantize.calibrate import Batches, no_images
from xxdeploy.quantize.graph_view import GraphView, layer_name
from xxdeploy.quantize.layout import plan_layout
from xxdeploy.quantize.observe import Observer
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.sensitivity import activations_behind, layer_noise
from xxdeploy.quantize.support import Role, role

log = logging.getLogger(__name__)

IMAGES = 16
CANDIDATES = 12


@dataclass(frozen=True, slots=True)
class LayerGain:
    """What it is worth to leave a layer in float.

    ``layer`` is the noisy one, ``layers`` are all that go to float for it, itself included, as ``Scheme.float_layers``
    takes them. ``cause`` is the largest part of its noise, ``sqnr_db``: ``weights``, ``input`` or ``output``.
    ``output_db`` is the signal-to-noise ratio of the network's output then, ``gain_db`` what that is above the network
    without; in dB.
    """

    layer: str
    layers: tuple[str, ...]
    cause: str
    sqnr_db: float
    output_db: float
    gain_db: float


def rank_layers(
    model: OnnxModel,
    ranges: Ranges,
    scheme: Scheme,
    batches: Batches,
    *,
    candidates: int = CANDIDATES,
    images: int = IMAGES,
    build: Callable[[Scheme], OnnxModel] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[LayerGain, ...]:
    """Return what is worth most in float, by its gain for each layer that goes there, the best first; none twice.

    The output is compared in front of a Softmax, and then without its mean over the classes, which a Softmax does not
    see. Gains do not simply add up: call it again with the best layers in ``scheme.float_layers`` to choose the next.

    Parameters
    ----------
    model, ranges, scheme
        As for :func:`xxdeploy.quantize.quantize`; layers that ``scheme`` leaves in float already are no candidates.
    batches
        Preprocessed batches (n, h, w, c) float32, of which the first ``images`` images are used.
    candidates
        How many to try, the noisiest first. Each costs a ``build``, a session and a run over the images.
    build
        Makes the INT8 network for a scheme; by default ``quantize(model, ranges, scheme)``. Biases that were corrected
        for one scheme are wrong for another: a correction belongs in here, or is left for after the choice.
    on_progress
        Called with the candidates done, as step ``rank layers``.

    Raises
    ------
    UsageError, ConversionError
        As :func:`xxdeploy.quantize.sensitivity.layer_noise`.
    """
    make = build or (lambda asked: quantize(model, ranges, asked))
    data = _first(batches, images)
    # Not build(): corrected biases would hide a layer's own noise behind what they make up for.
    noise = layer_noise(model, ranges, scheme, lambda: iter([data]))
    expected = _Output(model).run(data)
    base = _quality(expected, _Output(make(scheme)).run(data))
    log.info("output of the INT8 network: %.2f dB", base)
    found = []
    tried = _groups(GraphView.of(model), scheme, noise, candidates)
    for done, (layers, layer, cause) in enumerate(tried):
        mixed = replace(scheme, float_layers=scheme.float_layers | set(layers))
        try:
            quality = _quality(expected, _Output(make(mixed)).run(data))
        except ConversionError as error:
            if error.code != "nothing-to-quantize":  # all layers with weights: without them there is no INT8
                raise
        else:
            assert layer.sqnr_db is not None  # _groups() leaves dead layers out
            gain = round(quality - base, 2)
            found.append(LayerGain(layer.layer, layers, cause, layer.sqnr_db, round(quality, 2), gain))
        if on_progress is not None:
            on_progress(Progress("rank layers", done + 1, len(tried)))
    return tuple(sorted(found, key=lambda each: -each.gain_db / len(each.layers)))


def _groups(
    view: GraphView, scheme: Scheme, noise: Sequence[LayerNoise], count: int
) -> list[tuple[tuple[str, ...], LayerNoise, str]]:
    """Return up to ``count`` different sets of layers that take away the largest part of a layer's noise."""
    layers = plan_layout(view, scheme).layers
    nodes = {layer_name(node): node for node in view.nodes if node.output[0] in layers}
    found: dict[tuple[str, ...], tuple[LayerNoise, str]] = {}
    for layer in noise:
        parts = {"weights": layer.weights_db, "input": layer.input_db, "output": layer.output_db}
        known = {cause: ratio for cause, ratio in parts.items() if ratio is not None}
        if layer.sqnr_db is None or not known or len(found) >= count:
            continue
        cause = min(known, key=known.__getitem__)
        node = nodes[layer.layer]
        group = {layer.layer}
        if cause == "output":
            group |= _around(view, layers, activations_behind(view, node)[1])
        elif cause == "input":
            group |= set().union(*(_around(view, layers, name) for name in view.activations(node)))
        found.setdefault(tuple(name for name in nodes if name in group), (layer, cause))
    return [(group, layer, cause) for group, (layer, cause) in found.items()]


def _around(view: GraphView, layers: frozenset[str], tensor: str) -> set[str]:
    """Return the integer layers that write or read ``tensor``, also through operators that only move its values."""
    found, seen, todo = set[str](), set[str](), [tensor]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        beside = [(node, node.output[0]) for node in view.consumers.get(name, ())]
        if (producer := view.producers.get(name)) is not None:
            beside.append((producer, producer.input[0]))
        for node, onwards in beside:
            if node.output[0] in layers:
                found.add(layer_name(node))
            elif role(view, node) in (Role.PASS, Role.ACTIVATION):
                todo.append(onwards)
    return found


class _Output:
    """A network's output, in front of the Softmax if it ends in one."""

    def __init__(self, model: OnnxModel) -> None:
        view = GraphView.of(model)
        last = view.producers.get(view.outputs[0])
        self._centre = last is not None and last.op_type == "Softmax"
        self._name = str(last.input[0]) if last is not None and self._centre else view.outputs[0]
        self._observer = Observer(view, [self._name])

    def run(self, data: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the output for images (n, h, w, c), (n, values) float64, one image at a time."""
        rows = [self._observer.run(data[index : index + 1])[self._name].reshape(1, -1) for index in range(len(data))]
        values = np.concatenate(rows).astype(np.float64)
        return np.asarray(values - values.mean(axis=1, keepdims=True) if self._centre else values)


def _quality(expected: NDArray[np.float64], output: NDArray[np.float64]) -> float:
    """Return the SQNR of an output in dB; 0 where both networks give zeros only."""
    ratio = decibels(float(np.square(expected).sum()), float(np.square(expected - output).sum()))
    return ratio or 0.0


def _first(batches: Batches, images: int) -> NDArray[np.float32]:
    """Return the first images in one array (n, h, w, c)."""

    def parts() -> Iterator[NDArray[np.float32]]:
        seen = 0
        for batch in batches():
            yield batch[: images - seen]
            seen += len(batch)
            if seen >= images:
                return

    found = [part for part in parts() if len(part)]
    if not found:
        raise no_images()
    return np.concatenate(found)
