"""Figures as text, the same on the command line and in notebooks. Imports nothing."""

from __future__ import annotations


def percent(value: float | None) -> str:
    """Format a share (0..1) in percent, ``79.5``; ``-`` for None."""
    return "-" if value is None else f"{round(100 * value, 1) + 0.0:.1f}"


def short_number(value: float | None) -> str:
    """Format a number with about three significant digits; ``-`` for None."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.0995 else f"{value:.3f}"
