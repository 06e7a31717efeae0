"""Plots as positions in percent, which the template draws in HTML: they follow the reader's colors and width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import quantiles
from typing import Any

_MOST_DOTS = 60


def bars(rows: Sequence[tuple[str, float, str]]) -> list[dict[str, Any]]:
    """Return (name, value, text) as bars, the largest value as long as the row."""
    largest = max((value for _, value, _ in rows), default=0.0) or 1.0
    return [
        {"name": name, "width": round(100 * max(value, 0.0) / largest, 1), "text": text} for name, value, text in rows
    ]


def interval(bounds: Sequence[float], middle: float, low: float, high: float) -> dict[str, float]:
    """Return where an interval and its middle lie between ``low`` and ``high``, widened to hold them."""
    low, high = min(low, bounds[0], middle), max(high, bounds[1], middle)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 1)

    return {"left": place(bounds[0]), "right": place(bounds[1]), "middle": place(middle), "low": low, "high": high}


def strips(rows: Sequence[tuple[str, Sequence[float]]]) -> dict[str, Any]:
    """Return each row's values as dots on one logarithmic axis, with its p50, p90 and p99.

    A value far out would push all others into a corner of a linear axis.
    """
    rows = [(name, sorted(values)) for name, values in rows if len(values) > 1 and min(values) > 0]
    if not rows:
        return {"rows": [], "ticks": []}
    low = math.log10(min(values[0] for _, values in rows)) - 0.03
    high = math.log10(max(values[-1] for _, values in rows)) + 0.03

    def place(value: float) -> float:
        return round(100 * (math.log10(value) - low) / (high - low), 2)

    found = []
    for name, values in rows:
        cuts = quantiles(values, n=100, method="inclusive")
        shown = values[:: -(-len(values) // _MOST_DOTS)]
        found.append(
            {
                "name": name,
                "dots": [place(value) for value in shown],
                "p50": cuts[49],
                "p90": cuts[89],
                "p99": cuts[98],
                "at": place(cuts[49]),
            }
        )
    return {"rows": found, "ticks": [{"at": place(value), "text": f"{value:g}"} for value in _ticks(low, high)]}


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers on the axis, five or so."""
    steps = [1, 2, 5] if high - low < 2 else [1]
    every = [base * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for base in steps]
    return [value for value in every if low <= math.log10(value) <= high]
