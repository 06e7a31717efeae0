"""Tell by what images do inside a network whether two sets of them are of one kind.

Of each tensor that is to be INT8 and of each image, four figures are taken: the share of values outside the range, the
share of the range that is used, the mean, and the standard deviation; and of the image its colors. Two sets of one
kind differ in each by chance only. How much chance does is measured on the images themselves: they are dealt into two
sets again and again, and the largest difference of any figure is noted each time. A figure whose difference is larger
than 99.9 % of these maxima differs by more than chance. The test is right however the layers depend on each other, and
one warning in a thousand is false, however many layers there are (Westfall and Young 1993, "Resampling-based multiple
testing", the single-step maxT procedure).

The difference of a figure is that of Mann and Whitney 1947: the share of pairs of images, one from each set, in which
the second set's is larger, less one half. It depends on the order of values only: one strange picture cannot cause a
warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, layer_name
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer, Tensors
from xxdeploy.quantize.calibration.collect import SAMPLE
from xxdeploy.quantize.calibration.images import Batches, map_images, single_images
from xxdeploy.quantize.integers import activation_parameters
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import OnProgress, Progress, Ranges
from xxdeploy.results.domain import SIGNIFICANT, DomainRecord, LayerDomain

IMAGES = 64
"""Images of each set: MobileNetV2 then tells photographs from the same with red and blue exchanged, but not from others
of ImageNet."""
FEWEST = 8
"""Images of each set below which only a total difference could be told from chance."""
_DEALS = 3000
_WORST = 12
_FIGURES = ("clipped share", "used range", "mean", "deviation")
_CLIPPED, _USED = 0, 1
_COLORS = "colors of the input image"
_COLOR_FIGURES = ("", "", "saturation", "first channel less the last")


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor, the layer that writes it, and the ends of its INT8 range, half a step further out on either side."""

    name: str
    layer: str
    low: float
    high: float


def compare_domains(
    model: OnnxModel,
    ranges: Ranges,
    scheme: Scheme,
    *,
    held_back: Batches | None,
    seen: Batches | None,
    on_progress: OnProgress | None = None,
) -> DomainRecord:
    """Compare images that the network will see (``seen``) with calibration images that were ``held_back``.

    Both return preprocessed batches (n, h, w, c) float32; one of the two may be None, and then nothing is compared.
    About :data:`IMAGES` of each are enough. ``model`` is the float network, whose tensors have ``ranges`` under
    ``scheme``. In the result the image's colors count as one more layer.

    Raises ``UsageError`` (``no-calibration-images``), ``ConversionError`` (``calibration-run``).
    """
    graph = Graph(model)
    tensors = _tensors(graph, ranges, scheme)
    observer = Observer(graph, [tensor.name for tensor in tensors], threads=1)
    figures: list[NDArray[np.float64]] = []

    def look(values: Tensors) -> NDArray[np.float64]:
        return np.concatenate([_look(tensors, values), _look_at_colors(values[observer.inputs[0]])])

    for batches in (held_back, seen):
        rows = []
        for row in () if batches is None else map_images(observer, single_images(batches), look):
            rows.append(row)
            if on_progress is not None:
                on_progress(Progress("domain check", len(rows) + sum(map(len, figures)), None))
        figures.append(np.array(rows).reshape(-1, len(tensors) + 1, len(_FIGURES)))
    return _judge([*(tensor.layer for tensor in tensors), _COLORS], *figures)


def _tensors(graph: Graph, ranges: Ranges, scheme: Scheme) -> list[_Tensor]:
    """Return the quantized tensors; those of one scale share their range."""
    layers = {output: layer_name(node) for node in graph.nodes for output in node.output}
    tensors = []
    for names in plan_layout(graph, scheme).sources.values():
        spans = [ranges.ranges[name] for name in names if name in ranges.ranges]
        if not spans:
            continue
        parameters = activation_parameters(min(low for low, _ in spans), max(high for _, high in spans), scheme)
        step, zero = float(parameters.scale), int(parameters.zero_point)
        first = (-128 if scheme.signed else 0) - zero
        ends = (first - 0.5) * step, (first + 255.5) * step
        tensors += [_Tensor(name, layers.get(name, "the input image"), *ends) for name in names]
    return tensors


def _look(tensors: Sequence[_Tensor], values: Tensors) -> NDArray[np.float64]:
    """Return the four figures of each tensor for one image, (tensors, 4)."""
    figures = np.zeros((len(tensors), len(_FIGURES)))
    for row, tensor in zip(figures, tensors, strict=True):
        flat = values[tensor.name].reshape(-1)
        some = flat[:: -(-flat.size // SAMPLE) | 1]
        width = tensor.high - tensor.low
        clipped = np.count_nonzero(some < tensor.low) + np.count_nonzero(some > tensor.high)
        reach = max(float(flat.max()), 0.0) - min(float(flat.min()), 0.0)
        mean, deviation = some.mean(dtype=np.float64), some.std(dtype=np.float64)
        row[:] = clipped / some.size, reach / width, mean / width, deviation / width
    return figures


def _look_at_colors(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the figures of an image's channels, (1, 4): zeros of an input that is no colored image (1, h, w, 3)."""
    if image.ndim != 4 or image.shape[-1] != 3:
        return np.zeros((1, len(_FIGURES)))
    saturation = image.max(axis=-1).mean(dtype=np.float64) - image.min(axis=-1).mean(dtype=np.float64)
    slope = image[..., 0].mean(dtype=np.float64) - image[..., -1].mean(dtype=np.float64)
    return np.array([[0.0, 0.0, saturation, slope]])


def _judge(layers: Sequence[str], held_back: NDArray[np.float64], seen: NDArray[np.float64]) -> DomainRecord:
    """Compare the figures of both sets, (images, layers, 4)."""
    signed, limit, p_value = np.zeros((len(layers), len(_FIGURES))), 1.0, None
    if min(len(held_back), len(seen)) >= FEWEST:
        signed, limit, p_value = _differences(held_back, seen)
    telling = np.abs(signed).argmax(axis=1)
    largest = signed[np.arange(len(layers)), telling]
    differs = np.abs(largest) > limit
    both = held_back, seen
    last = (seen if len(seen) else held_back)[:, :, _CLIPPED].mean(axis=0)

    def layer(index: int) -> LayerDomain:
        colors = layers[index] == _COLORS
        clipped, used = (
            [round(float(rows[:, index, figure].mean()), 5) if len(rows) and not colors else None for rows in both]
            for figure in (_CLIPPED, _USED)
        )
        figure = (_COLOR_FIGURES if colors else _FIGURES)[telling[index]]
        shown = (figure, round(0.5 + float(largest[index]), 3)) if differs[index] else (None, None)
        return LayerDomain(layers[index], (clipped[0], clipped[1]), (used[0], used[1]), *shown)

    order = [index for index in np.lexsort((-last, -np.abs(largest) * differs)) if differs[index] or last[index] > 0]
    exceeded = [int(np.count_nonzero((rows[:, :, _CLIPPED] > 0).any(axis=0))) for rows in both]
    return DomainRecord(
        held_back=len(held_back),
        images=len(seen),
        layers=len(layers),
        exceeded=(exceeded[0], exceeded[1]),
        differing=int(differs.sum()),
        p_value=p_value,
        worst=tuple(map(layer, order[:_WORST])),
    )


def _differences(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float | None]:
    """Return the difference of each figure (layers, 4), -0.5..0.5, the limit of chance, and the largest's p-value."""
    ranks = _ranks(np.concatenate([first, second]).reshape(len(first) + len(second), -1))
    pairs = len(first) * len(second)
    difference = ranks[len(first) :].sum(axis=0) / pairs
    rng = np.random.default_rng(0)
    deals = (rng.permutation(len(ranks))[: len(second)] for _ in range(_DEALS))
    chance = np.array([np.abs(ranks[deal].sum(axis=0)).max() for deal in deals]) / pairs
    p_value = (1 + np.count_nonzero(chance >= np.abs(difference).max() - 1e-12)) / (_DEALS + 1)
    limit = float(np.quantile(chance, 1 - SIGNIFICANT, method="higher"))
    return difference.reshape(first.shape[1:]), limit, float(f"{p_value:.2g}")


def _ranks(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each image in each column (images, figures), less the mean rank; equal ones share a rank."""
    ranks = np.empty_like(figures)
    for column, values in enumerate(figures.T):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks[:, column] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return np.asarray(ranks - ranks.mean(axis=0))
