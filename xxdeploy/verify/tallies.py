"""The differences of outputs that are no classes of pictures, counted by the measure of their task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xxdeploy.results import Figure, ModelOutput
from xxdeploy.verify.pictures import MaskTally, PictureTally, ends_of
from xxdeploy.verify.statistics import Interval, bootstrap_interval
from xxdeploy.verify.strings import TextTally

_KEPT = 64
"""Errors of a picture, evenly spaced in their order, that an interval is computed from."""
_PERCENTILE = 0.95


class Tally(Protocol):
    """Counts the differences of a candidate's outputs from its reference's, batch by batch."""

    def add(self, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        """Count a batch of rows, (n, values) each."""
        ...

    def figures(self) -> tuple[Figure, ...]:
        """Return the figures, the one that is judged first."""
        ...

    @property
    def loss(self) -> float | None:
        """Return the figure that two candidates are compared by: 0 for no difference, and the less the better.

        None: the divergence of the probabilities is a better one.
        """
        ...


def tally_for(output: ModelOutput | None, labels: Sequence[int] | None = None) -> Tally | None:
    """Return an empty tally for an output; None for the tasks whose measures every comparison has.

    ``labels`` are those of the images, of a sequence indices into its true texts.
    """
    if output is None:
        return None
    if output.task == "image" and output.output_range is not None:
        return PictureTally(output.shape, output.output_range)
    if output.task == "image":
        return MaskTally(output.shape)
    if output.task == "sequence":
        return TextTally(output, labels)
    return ValueTally() if output.task == "values" else None


class ValueTally:
    """Absolute errors of values, in the unit of the output."""

    def __init__(self) -> None:
        self._errors: list[NDArray[np.float64]] = []

    def add(self, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        """Count a batch of rows, (n, values) each."""
        self._errors.append(np.abs(reference.astype(np.float64) - candidate))

    def figures(self) -> tuple[Figure, ...]:
        """Return the 95th percentile of all errors, their mean, and the largest one."""
        errors = np.concatenate(self._errors)
        means = errors.mean(axis=1)
        return (
            Figure("p95_error", float(np.quantile(errors, _PERCENTILE)), ends_of(_percentile_interval(errors))),
            Figure("mean_error", float(means.mean()), ends_of(bootstrap_interval(means))),
            Figure("largest_error", float(errors.max())),
        )

    @property
    def loss(self) -> float:
        """Return the mean squared error."""
        return float(np.square(np.concatenate(self._errors)).mean())


def _percentile_interval(errors: NDArray[np.float64]) -> Interval | None:
    """Return the interval of the 95th percentile of errors (n, values), the values of a picture drawn together."""
    if errors.shape[1] > _KEPT:
        places = np.linspace(0, errors.shape[1] - 1, _KEPT).round().astype(np.intp)
        errors = np.sort(errors, axis=1)[:, places]
    order = np.argsort(errors, axis=None)
    pictures, ranked = order // errors.shape[1], errors.reshape(-1)[order]

    def percentile(weights: NDArray[np.float64]) -> float:
        reached = np.cumsum(weights[pictures])
        return float(ranked[np.searchsorted(reached, _PERCENTILE * reached[-1])])

    return bootstrap_interval(errors[:, 0], percentile)
