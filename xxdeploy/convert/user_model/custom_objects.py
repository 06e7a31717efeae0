"""The user's own classes and functions, given as ``--custom-objects package.module:name``. Nothing else is imported."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xxdeploy.convert.user_model.lambdas.replace import LAYER, MODULE
from xxdeploy.errors import UsageError

_PAIR = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)", re.ASCII)
OURS = {"LocalResponseNormalization": "xxdeploy.models.local_response", LAYER: MODULE}
"""Our own layers, which each file may name."""
_OF_NETWORKS = {
    "LayerScale": "keras.src.applications.convnext",
    "StochasticDepth": "keras.src.applications.convnext",
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
}
"""Layers of Keras' networks, which Keras itself does not find by name. ``quarantine.known`` allows them by module."""
_TRANSLATIONS = {"hard_sigmoid_of_keras2": "xxdeploy.convert.user_model.keras2_operations"}


def custom_names(given: Sequence[str]) -> frozenset[str]:
    """Return the names that ``--custom-objects module:name`` allows in a file; nothing is imported.

    Raises
    ------
    UsageError
        ``bad-custom-objects``: not ``module:name``.
    """
    return frozenset(name for _, name in map(_split, given)) | OURS.keys()


def import_custom_objects(given: Sequence[str]) -> dict[str, Any]:
    """Import the user's classes and functions; return each under every name that a file may use for it.

    Modules are searched on Python's path and then in the working folder, never in the folder of the model file.

    Raises
    ------
    UsageError
        ``bad-custom-objects``: there is no such module or name, or its import fails.
    """
    objects: dict[str, Any] = {}
    with _working_folder():
        for pair in given:
            module, name = _split(pair)
            try:
                value = getattr(importlib.import_module(module), name)
            except Exception as error:  # the user's own code may raise anything
                raise UsageError(
                    f"--custom-objects {pair} cannot be imported: {type(error).__name__}: {str(error)[:200]}",
                    hint="run xxdeploy in the folder of that module, or install the module in this environment",
                    code="bad-custom-objects",
                ) from error
            objects[name] = value
            objects[getattr(value, "__name__", name)] = value
    from keras.saving import get_registered_name

    for name, module in {**OURS, **_OF_NETWORKS, **_TRANSLATIONS}.items():
        if name not in objects:
            objects[name] = getattr(importlib.import_module(module), name)
    for value in tuple(objects.values()):
        objects.setdefault(get_registered_name(value), value)
        objects.setdefault(f"Custom>{getattr(value, '__name__', '')}", value)  # registered without a package
    return objects


def _split(pair: str) -> tuple[str, str]:
    match = _PAIR.fullmatch(pair)
    if match is None:
        raise UsageError(
            f"--custom-objects {pair[:100]!r} is not module:name",
            hint="for example, --custom-objects layers:Swish is class Swish of layers.py in this folder",
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
