"""Numbers as people read them, and the templates that show them. A number takes None where nothing was measured."""

from __future__ import annotations

from xxdeploy.optional import extra

with extra("export"):
    from jinja2 import Environment, PackageLoader, StrictUndefined

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


def seconds(value: float | None) -> str:
    """Write seconds."""
    return NOTHING if value is None else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


_FILTERS = (percent, points, megabytes, milliseconds, small, decibel, ratio, seconds)


def environment() -> Environment:
    """Return the templates' environment, with the numbers above as filters: all text is escaped, unknown names fail."""
    made = Environment(
        loader=PackageLoader("xxdeploy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {write.__name__: write for write in _FILTERS}
    return made
