"""Numbers as people read them, and the templates that show them. A number takes None where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xxdeploy.optional import extra

with extra("export"):
    from jinja2 import Environment, PackageLoader, StrictUndefined

NOTHING = "-"


def _writer(text: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: NOTHING if value is None else text(value)


percent = _writer(lambda share: f"{round(100 * share, 1) + 0.0:.1f}")
points = _writer(lambda change: f"{round(100 * change, 1) + 0.0:+.1f}")
"""Percent and points take a share or a change in 0..1."""
megabytes = _writer(lambda size: f"{size / 1e6:.1f} MB")
milliseconds = _writer(lambda time: f"{time:.{0 if time >= 100 else 1 if time >= 10 else 2}f} ms")
seconds = _writer(lambda time: f"{time:.1f} s" if time < 100 else f"{time:.0f} s")
small = _writer(lambda difference: f"{difference:.1e}")
decibel = _writer(lambda value: f"{value:.1f} dB")
ratio = _writer(lambda value: f"{value:.2f}x")


def environment() -> Environment:
    """Return the templates' environment, with the writers above as filters: text is escaped, unknown names fail."""
    made = Environment(
        loader=PackageLoader("xxdeploy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "points": points, "megabytes": megabytes, "milliseconds": milliseconds}
    made.filters |= {"seconds": seconds, "small": small, "decibel": decibel, "ratio": ratio}
    return made


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return environment().get_template(template).render(**values)
