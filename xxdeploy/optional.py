"""Imports of optional libraries, with an error that names the pip line.

>>> with extra("export"):
...     import tf2onnx
>>> openvino = import_library("openvino", "openvino")
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xxdeploy.errors import MissingDependencyError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a failed import into ``MissingDependencyError`` that names the extra ``name``.

    The code is ``missing-dependency`` for an absent library, and ``broken-dependency`` for one that is present and
    cannot be loaded (a missing shared object, a wrong version), which the same pip line does not cure.
    """
    install = f"pip install 'xxdeploy[{name}]'"
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"this step needs {error.name}, which is not installed", hint=install, code="missing-dependency"
        ) from error
    except ImportError as error:
        raise MissingDependencyError(
            f"{error.name or 'a library'} is installed but cannot be loaded: {error}",
            hint=f"see `xxdeploy doctor`, or try again in a fresh environment: {install}",
            code="broken-dependency",
        ) from error


def import_library(module: str, name: str) -> Any:
    """Import ``module``, which the extra ``name`` brings. Errors as ``extra``, also where its initialization fails."""
    with extra(name):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError:
            raise
        except (ImportError, OSError, RuntimeError, AttributeError) as error:  # shared objects of another version
            raise ImportError(str(error), name=module) from error
