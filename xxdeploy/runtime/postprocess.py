"""From the network's output to named classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError

FEW = 32
"""Classes up to which Python sorts them all sooner than numpy finds the best."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class for one image: its index, its name and the probability (0..1)."""

    index: int
    label: str
    probability: float


def top_predictions(probabilities: NDArray[np.float32], labels: Sequence[str], top: int) -> tuple[Prediction, ...]:
    """Return the ``top`` most probable classes, best first; equal ones in the order of their index.

    ``probabilities`` are (classes,) float32 of one image, ``labels`` the names of these classes. ``top`` may be more
    than there are; ``UsageError`` ``top-invalid`` if it is below 1.
    """
    if top < 1:
        raise UsageError(f"top must be at least 1, not {top}", hint="ask for one class or more", code="top-invalid")
    if probabilities.shape != (len(labels),):
        raise ValueError(f"{probabilities.shape} probabilities for {len(labels)} labels")
    count = len(labels)
    top = min(top, count)
    # Ties stay in the order of their index everywhere: both sorts are stable.
    if count <= FEW:
        values = probabilities.tolist()
        order = sorted(range(count), key=values.__getitem__, reverse=True)[:top]
        return tuple([Prediction(index, labels[index], values[index]) for index in order])
    # Sorting 1,000 classes for five takes longer than everything else downstream of the network.
    ordered = probabilities.copy()
    ordered.partition(count - top)
    likely = (probabilities >= ordered[count - top]).nonzero()[0]
    ranked = sorted(zip((-probabilities[likely]).tolist(), likely.tolist(), strict=True))[:top]
    return tuple([Prediction(index, labels[index], -negative) for negative, index in ranked])
