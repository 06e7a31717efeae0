"""Classes and functions of the user's own, named as ``package.module:name``. Only what the user names is imported."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xxdeploy.errors import UsageError

_PAIR = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)", re.ASCII)
OURS = {"LocalResponseNormalization": "xxdeploy.models.local_response"}
"""Layers of the networks of the catalog, which every file may name."""
_TRANSLATIONS = {"hard_sigmoid_of_keras2": "xxdeploy.convert.user_model.old_activations"}


def custom_names(given: Sequence[str]) -> frozenset[str]:
    """Return the names that ``--custom-objects module:name`` adds, without importing anything.

    Raises
    ------
    UsageError
        ``bad-custom-objects``: not ``module:name``.
    """
    return frozenset(name for _, name in map(_split, given)) | OURS.keys()


def import_custom_objects(given: Sequence[str]) -> dict[str, Any]:
    """Import what the user names, and return it by every name under which a file may ask for it.

    Modules are looked for where Python looks, and then in the working folder; never beside the model file.

    Raises
    ------
    UsageError
        ``bad-custom-objects``: there is no such module or name, or its import fails.
    """
    found: dict[str, Any] = {}
    with _working_folder():
        for pair in given:
            module, name = _split(pair)
            try:
                value = getattr(importlib.import_module(module), name)
            except Exception as error:  # the user's own code may raise anything
                raise UsageError(
                    f"--custom-objects {pair} cannot be imported: {type(error).__name__}: {str(error)[:200]}",
                    hint="start xxdeploy in the folder of that module, or install it in this environment",
                    code="bad-custom-objects",
                ) from error
            found[name] = value
            found[getattr(value, "__name__", name)] = value
    from keras.saving import get_registered_name

    for name, module in {**OURS, **_TRANSLATIONS}.items():
        if name not in found:
            found[name] = getattr(importlib.import_module(module), name)
    for value in tuple(found.values()):
        found.setdefault(get_registered_name(value), value)
        found.setdefault(f"Custom>{getattr(value, '__name__', '')}", value)  # registered without a package
    return found


def _split(pair: str) -> tuple[str, str]:
    match = _PAIR.fullmatch(pair)
    if match is None:
        raise UsageError(
            f"--custom-objects {pair[:100]!r} is not module:name",
            hint="for class Swish in layers.py of this folder: --custom-objects layers:Swish",
            code="bad-custom-objects",
        )
    return match["module"], match["name"]


@contextmanager
def _working_folder() -> Iterator[None]:
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
