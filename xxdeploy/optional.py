"""Imports of optional libraries, with an error that names the pip line.

>>> with extra("export"):
...     import tf2onnx
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xxdeploy.errors import MissingDependencyError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a failed import into ``MissingDependencyError`` that names the extra ``name``.

    A library that is absent and one that is present but broken (a missing shared object, a wrong
    version) get different messages: the second is not cured by the same pip line.
    """
    install = f"pip install 'xxdeploy[{name}]'"
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"this step needs {error.name}, which is not installed",
            hint=install,
            code="missing-dependency",
        ) from error
    except ImportError as error:
        raise MissingDependencyError(
            f"{error.name or 'a library'} is installed but cannot be loaded: {error}",
            hint=f"see `xxdeploy doctor`, or try again in a fresh environment: {install}",
            code="broken-dependency",
        ) from error
