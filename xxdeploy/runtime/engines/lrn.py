"""Local response normalization as the exporter notes it, for engines that have a good one of their own."""

from __future__ import annotations

import json
import math

METADATA = "xxdeploy.lrn"
"""Key of the ONNX metadata: ``{"name of the last node": [size, alpha, beta, bias], ...}``."""
_MOST_ROOTS = 4


def roots(beta: float) -> int | None:
    """Return how many square roots of square roots make a power: 1/2 is one, 3/4 is two, 7/8 three; else None."""
    for count in range(1, _MOST_ROOTS + 1):
        if math.isclose(beta, 1 - 0.5**count, abs_tol=1e-6):
            return count
    return None


def noted_lrn(text: str | None) -> dict[str, tuple[int, float, float, float]]:
    """Read what the metadata hold, (size, alpha, beta, bias) by the name of the last node; nothing if it is wrong."""
    kept: dict[str, tuple[int, float, float, float]] = {}
    try:
        for name, (size, *others) in json.loads(text or "{}").items():
            alpha, beta, bias = map(float, others)
            kept[str(name)] = int(size), alpha, beta, bias
    except (AttributeError, TypeError, ValueError, RecursionError):
        return {}
    return kept if all(all(map(math.isfinite, each)) and roots(each[2]) for each in kept.values()) else {}
