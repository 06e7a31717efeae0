"""Local response normalisation as the exporter notes it, for engines that have a good one of their own."""

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
    """Read what the metadata hold: (size, alpha, beta, bias) by the name of the last node; nothing where that is wrong."""
    try:
        found = json.loads(text or "{}")
        kept = {str(name): (int(size), *map(float, others)) for name, (size, *others) in found.items()}
    except (AttributeError, TypeError, ValueError, RecursionError):
        return {}
    right = all(len(each) == 4 and all(map(math.isfinite, each)) and roots(each[2]) for each in kept.values())
    return {name: (each[0], each[1], each[2], each[3]) for name, each in kept.items()} if right else {}
