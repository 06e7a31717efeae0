"""What a model's ONNX metadata tell an engine: top-k outputs, and local response normalizations."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOP_K = "xxdeploy.top_k"
"""Metadata key of a model that returns its best classes only: ``{"classes": N}``, how many classes there are."""
CLASSES_SUFFIX = "_classes"
"""The second output has the name of the first with this suffix."""
_MOST_CLASSES = 1_000_000
LRN = "xxdeploy.lrn"
"""Metadata key of sums that are an LRN: ``{"name of the last node": [size, alpha, beta, bias], ...}``."""
_MOST_ROOTS = 4


@dataclass(frozen=True, slots=True)
class TopK:
    """Such a model has two outputs: values (n, k) float32, best first, and the classes (n, k) int64 that have them."""

    classes: int

    @classmethod
    def parse(cls, text: str | None) -> TopK | None:
        """Read the metadata; None if they are wrong."""
        try:
            classes = json.loads(text or "")["classes"]
        except (KeyError, TypeError, ValueError):
            return None
        return cls(classes) if type(classes) is int and 0 < classes <= _MOST_CLASSES else None

    def spread(self, values: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (n, classes) float32: the values in their places, and elsewhere an equal share of the rest of 1.

        Each share is at most the least listed value, so the order is right, and rows of probabilities add up to 1
        again. ``IndexError`` for a class that there is not.
        """
        count = max(1, self.classes - values.shape[1])
        rest = (1 - values.sum(1, keepdims=True, dtype=np.float64)) / count
        rest = np.minimum(np.maximum(rest, 0), values[:, -1:])
        whole = np.repeat(rest.astype(np.float32), self.classes, axis=1)
        np.put_along_axis(whole, classes, values, axis=1)
        return whole


def same_but_unlisted(outputs: NDArray[np.float32], expected: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Replace the values that ``spread`` made up by ``expected`` values, at most the least known value of the image.

    ``count`` is how many classes the model returns. Both are (n, classes); compare the result with ``expected``.
    """
    order = np.argsort(-outputs, axis=1, kind="stable")
    least = np.take_along_axis(outputs, order[:, count - 1 : count], axis=1)
    unknown = order[:, count:]
    known = outputs.copy()
    np.put_along_axis(known, unknown, np.minimum(np.take_along_axis(expected, unknown, axis=1), least), axis=1)
    return known


def roots(beta: float) -> int | None:
    """Return how many square roots of square roots make a power: 1/2 is one, 3/4 is two, 7/8 three; else None."""
    for count in range(1, _MOST_ROOTS + 1):
        if math.isclose(beta, 1 - 0.5**count, abs_tol=1e-6):
            return count
    return None


def noted_lrn(text: str | None) -> dict[str, tuple[int, float, float, float]]:
    """Read the metadata: (size, alpha, beta, bias) by the name of the last node; empty if they are wrong."""
    kept: dict[str, tuple[int, float, float, float]] = {}
    try:
        for name, (size, *others) in json.loads(text or "{}").items():
            alpha, beta, bias = map(float, others)
            kept[str(name)] = int(size), alpha, beta, bias
    except (AttributeError, TypeError, ValueError, RecursionError):
        return {}
    return kept if all(all(map(math.isfinite, lrn)) and roots(lrn[2]) for lrn in kept.values()) else {}
