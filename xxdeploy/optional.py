"""Imports of optional libraries, with an error that names the pip line.

>>> with extra("export"):
...     import tf2onnx
>>> openvino = import_library("openvino", "openvino")
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xxdeploy.errors import MissingDependencyError

OLD_NUMPY = "pip install 'numpy<2.4': its wheels run on processors without SSE4.2 and POPCNT"
_REMEDIES = (
    (
        r"DLL load failed|WinError (?:126|127|1114)",
        "install the newest Visual C++ runtime, https://aka.ms/vs/17/release/vc_redist.x64.exe (conda: conda install "
        "conda-forge::vs2015_runtime), and start Python again",
    ),
    (
        r"(GLIBC_[0-9.]+)' not found",
        "the C library of this system is older than {0}: use a newer system or container image (such as "
        "python:3.12-slim), or the package of conda-forge, which is built for older systems",
    ),
    (
        r"((?:GLIBCXX|CXXABI)_[0-9.]+)' not found",
        "the C++ library of this system is older than {0}: use a newer system or container image, or the package of "
        "conda-forge, which brings its own",
    ),
    (r"built with baseline optimizations", OLD_NUMPY),
    (
        r"ld-linux[^ ]*: No such file|Error relocating|Error loading shared library ld-",
        "wheels for glibc do not run on musl (Alpine): use an image with glibc, such as python:3.12-slim",
    ),
    (
        r"([^ /:]+\.so[.0-9]*): cannot open shared object file",
        "install the system's package that has {0} (on Debian, `apt-file search {0}` names it)",
    ),
    (
        r"wrong ELF class|invalid ELF header|not a valid Win32 application|incompatible architecture",
        "the library was installed for another processor or system: install it again, in a fresh environment",
    ),
    (
        r"cannot allocate memory in static TLS block",
        "import it before all other libraries, or set LD_PRELOAD to the file that the message names",
    ),
)
"""Messages of systems that cannot load a library, and what helps. {0} is the group of the pattern."""


def remedy_for(problem: str) -> str | None:
    """Return what helps against the message of a failed import, None if it is not a known one."""
    for pattern, remedy in _REMEDIES:
        if found := re.search(pattern, problem):
            return remedy.format(*found.groups())
    return None


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
            hint=remedy_for(str(error)) or f"see `xxdeploy doctor`, or try again in a fresh environment: {install}",
            code="broken-dependency",
        ) from error
    except RuntimeError as error:  # numpy's, on an old processor
        if (remedy := remedy_for(str(error))) is None:
            raise
        raise MissingDependencyError(
            f"a library is installed but cannot be loaded: {' '.join(str(error).split())}",
            hint=remedy,
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
