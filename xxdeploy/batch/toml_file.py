"""The matrix in a TOML file. It may come from somebody else: everything in it is checked, nothing is run.

::

    precisions = ["fp32", "int8"]

    [options]                      # of every network, by their names on the command line
    weights = "none"

    [[network]]
    model = "mobilenetv2"
    precisions = ["int8"]          # instead of those above
    name = "mobilenetv2-small"     # of the bundle, by default that of the network
    options = { alpha = 0.35, weights = "none" }
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xxdeploy.batch.jobs import PATHS, PRECISIONS, Cell, Option, cell_from, distinct, is_model_file
from xxdeploy.files import TomlFile

MAX_CELLS = 1000

KINDS: dict[str, tuple[type, ...]] = {
    "weights": (str,),
    "alpha": (float, int),
    "input-size": (int,),
    "classes": (int,),
    "no-top": (bool,),
    "pooling": (str,),
    "labels": (str,),
    "preprocess": (str,),
    "resize": (str,),
    "output-layer": (str,),
    "task": (str,),
    "calibration": (str,),
    "samples": (int,),
    "method": (str,),
    "seed": (int,),
    "recipe": (str,),
    "cpu": (str,),
    "eval": (str,),
    "max-drop": (float, int),
    "min-agreement": (float, int),
}
"""Options that a file may set. Those that run code of the user's own are for the command line only."""

_FILES = {"weights": (".h5", ".keras"), "recipe": (".toml",), "preprocess": (".toml", ".json")}
"""Options that name a file where they end like one."""
_FILE = TomlFile(
    noun="the matrix",
    missing_code="no-matrix",
    missing_hint="give a .toml file, names of networks, or --all",
    bad_code="bad-matrix",
    bad_hint="precisions, [options] and [[network]] with model, name, precisions, options; see docs/matrix.md",
)


def cells_from_file(path: Path, given: Mapping[str, Option], precisions: tuple[str, ...] | None) -> tuple[Cell, ...]:
    """Read the cells that a TOML file describes; its paths are relative to it.

    ``given`` (of the command line) goes before ``[options]``, and a network's own options before both;
    ``precisions`` before the file's.

    Raises
    ------
    UsageError
        ``no-matrix``: the file cannot be read. ``bad-matrix``: not TOML, too large, an unknown key, a value of the
        wrong type; the message says where. ``unknown-model``, ``unknown-precision``, ``repeated-cell``.
    """
    values = _FILE.read(path)
    _FILE.check_keys(path, values, ("precisions", "options", "network"))
    common = _options(path, "[options]", values.get("options", {})) | dict(given)
    usual = _precisions(path, "precisions", values.get("precisions", ["fp32"]))
    networks = values.get("network")
    if not isinstance(networks, list) or not networks:
        raise _FILE.bad(path, "it has no [[network]]")
    cells: list[Cell] = []
    for number, network in enumerate(networks, start=1):
        where = f"network {number}"
        if not isinstance(network, dict):
            raise _FILE.bad(path, f"{where} is no table")
        _FILE.check_keys(path, network, ("model", "precisions", "name", "options"), f"{where}: ")
        model, name = network.get("model"), network.get("name")
        if not isinstance(model, str) or not model.strip() or "\0" in model:
            raise _FILE.bad(path, f'{where} has no model = "NAME"')
        if name is not None and not isinstance(name, str):
            raise _FILE.bad(path, f"{where}: name must be a text")
        wanted = precisions or _precisions(path, where, network.get("precisions", list(usual)))
        options = common | _options(path, where, network.get("options", {}))
        model = str(path.parent / model) if is_model_file(model) else model
        cells += [cell_from(model, precision, options, name) for precision in wanted]
        if len(cells) > MAX_CELLS:
            raise _FILE.bad(path, f"it asks for more than {MAX_CELLS} bundles")
    return distinct(cells)


def _options(path: Path, where: str, values: Any) -> dict[str, Option]:
    if not isinstance(values, dict):
        raise _FILE.bad(path, f"{where}: options must be a table")
    _FILE.check_keys(path, values, KINDS, f"{where}: ")
    found: dict[str, Option] = {}
    for key, value in values.items():
        if type(value) not in KINDS[key]:
            kinds = " or ".join(kind.__name__ for kind in KINDS[key])
            raise _FILE.bad(path, f"{where}: {key} must be {kinds}, not {str(value)[:80]!r}")
        if isinstance(value, str) and (not value or "\0" in value):
            raise _FILE.bad(path, f"{where}: {key} is empty or holds a null byte")
        if isinstance(value, str) and (key in PATHS or value.lower().endswith(_FILES.get(key, ("\0",)))):
            value = str(path.parent / value)
        found[key] = value
    return found


def _precisions(path: Path, where: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(each, str) for each in values):
        raise _FILE.bad(path, f"{where}: precisions must be a list such as {list(PRECISIONS)}")
    return tuple(values)
