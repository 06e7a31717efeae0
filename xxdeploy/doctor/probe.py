"""Import the modules given as arguments, and print a JSON line on each.

A broken library may end the process, so ``xxdeploy.doctor.checkup`` runs this file as a child process. It imports
nothing of the package.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import sys
from types import ModuleType


def probe(name: str) -> dict[str, object]:
    """Import a module; return its name, version, and error (None if it works)."""
    try:
        module = importlib.import_module(name)
        facts: dict[str, object] = {"module": name, "version": _version(name, module), "error": None}
    except ModuleNotFoundError as error:
        return {"module": name, "error": "missing" if error.name == name else f"needs {error.name}, which is missing"}
    except BaseException as error:  # noqa: BLE001 - a broken library may raise anything
        return {"module": name, "error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    return facts


def _version(name: str, module: ModuleType) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return str(getattr(module, "__version__", None) or importlib.metadata.version(name))
    return ""


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps(probe(argument)), flush=True)  # noqa: T201 - read by the parent process
