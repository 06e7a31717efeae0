"""Numbers as people read them. Each takes None for what was not measured, and gives a dash."""

from __future__ import annotations

NOTHING = "-"


def percent(share: float | None) -> str:
    """Write a share (0..1) in percent with one digit."""
    return NOTHING if share is None else f"{round(100 * share, 1) + 0.0:.1f}"


def points(change: float | None) -> str:
    """Write a change (0..1) in points with its sign."""
    return NOTHING if change is None else f"{round(100 * change, 1) + 0.0:+.1f}"


def megabytes(size: int | None) -> str:
    """Write bytes in MB."""
    return NOTHING if size is None else f"{size / 1e6:.1f} MB"


def milliseconds(value: float | None) -> str:
    """Write milliseconds with three digits."""
    if value is None:
        return NOTHING
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def small(value: float | None) -> str:
    """Write a difference in powers of ten."""
    return NOTHING if value is None else f"{value:.1e}"


def decibel(value: float | None) -> str:
    """Write a ratio in dB."""
    return NOTHING if value is None else f"{value:.1f} dB"


def ratio(value: float | None) -> str:
    """Write a ratio with two digits."""
    return NOTHING if value is None else f"{value:.2f}x"


def seconds(value: float) -> str:
    """Write seconds."""
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"
