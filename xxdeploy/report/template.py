"""The templates: escaped throughout, and an unknown name in one is an error."""

from __future__ import annotations

from xxdeploy.optional import extra
from xxdeploy.report import format as write

with extra("export"):
    from jinja2 import Environment, PackageLoader, StrictUndefined

_FILTERS = ("percent", "points", "megabytes", "milliseconds", "small", "decibel", "ratio", "seconds")


def environment() -> Environment:
    """Return what templates are made in, with the numbers of ``report.format`` as filters."""
    found = Environment(
        loader=PackageLoader("xxdeploy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {name: getattr(write, name) for name in _FILTERS}
    return found
