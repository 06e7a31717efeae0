"""Imports the modules named as arguments, in a process of its own, and prints a JSON line about each.

A library that is broken may end the process it is imported into; `xxdeploy.doctor.checkup` survives that and goes on
with the next module. Run as a file, so it imports nothing of the package.
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
    except BaseException as error:  # noqa: BLE001 - whatever a broken library raises, the doctor lives on
        return {"module": name, "error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    return facts


def _version(name: str, module: ModuleType) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return str(getattr(module, "__version__", None) or importlib.metadata.version(name))
    return ""


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps(probe(argument)), flush=True)  # noqa: T201 - read by the parent process
