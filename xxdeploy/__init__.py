"""xxdeploy takes a Keras image model to small machines, and proves that it is still the same model.

``xxdeploy.export`` and ``xxdeploy.load`` are imported when they are first used: a device has no exporter.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xxdeploy.python.export import export
    from xxdeploy.runtime import load

# The builds of ONNX Runtime send usage data to their maker unless this is set before the library starts. A value that
# the user has set stays; docs/how-to/privacy.md has the whole story.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    __version__: str = import_module("xxdeploy._version").__version__  # a build writes this module
except ModuleNotFoundError:
    __version__ = "0.1.0.dev0"  # a checkout that was not built
__all__ = ["export", "load"]

_HOMES = {"export": ("xxdeploy.python.export", "export"), "load": ("xxdeploy.runtime", "edge")}
"""The module of each name, and the extra that brings its libraries."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from xxdeploy.optional import extra

        home, libraries = _HOMES[name]
        with extra(libraries):
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
