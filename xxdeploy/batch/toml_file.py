"""The batch in a TOML file. A file may come from somebody else: everything in it is checked, and no code is run.

::

    precisions = ["fp32", "int8"]

    [options]                      # of every network, under their names on the command line
    weights = "none"

    [[network]]
    model = "mobilenetv2"
    precisions = ["int8"]          # instead of the list above
    name = "mobilenetv2-small"     # of the bundle, by default that of the network
    options = { alpha = 0.35, weights = "none" }
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xxdeploy.batch.jobs import Job, distinct, job_from
from xxdeploy.exporter.option_fields import PRECISIONS, Value
from xxdeploy.exporter.options import OPTIONS
from xxdeploy.exporter.source import is_model_file
from xxdeploy.files import TomlFile

MAX_JOBS = 1000
_FILE = TomlFile(
    noun="the batch file",
    missing_code="no-matrix",
    missing_hint="give a .toml file, names of networks, or --all",
    bad_code="bad-matrix",
    bad_hint="precisions, [options] and [[network]] with model, name, precisions, options; see docs/how-to/batch.md",
)


def jobs_from_file(path: Path, given: Mapping[str, Value], precisions: tuple[str, ...] | None) -> tuple[Job, ...]:
    """Read the jobs that a TOML file describes; its paths are relative to it.

    A network's own options override ``given`` (of the command line), which override ``[options]``; ``precisions``
    overrides those of the file.

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
    jobs: list[Job] = []
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
        jobs += [job_from(model, precision, options, name) for precision in wanted]
        if len(jobs) > MAX_JOBS:
            raise _FILE.bad(path, f"it asks for more than {MAX_JOBS} bundles")
    return distinct(jobs)


def _options(path: Path, where: str, values: Any) -> dict[str, Value]:
    if not isinstance(values, dict):
        raise _FILE.bad(path, f"{where}: options must be a table")
    _FILE.check_keys(path, values, OPTIONS, f"{where}: ")
    options: dict[str, Value] = {}
    for name, value in values.items():
        option = OPTIONS[name]
        kinds = {float: (float, int), Path: (str,)}.get(option.kind, (option.kind,))
        if not option.scope.in_file:
            raise _FILE.bad(path, f"{where}: {name} is an option of the command line only")
        if type(value) not in kinds:
            allowed = " or ".join(kind.__name__ for kind in kinds)
            raise _FILE.bad(path, f"{where}: {name} must be {allowed}, not {str(value)[:80]!r}")
        if isinstance(value, str) and (not value or "\0" in value):
            raise _FILE.bad(path, f"{where}: {name} is empty or holds a null byte")
        file = path.parent / value if option.names_file(value) else None
        ships = value in option.scope.names and file is not None and not file.exists()
        options[name] = value if file is None or ships else str(file)
    return options


def _precisions(path: Path, where: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(name, str) for name in values):
        raise _FILE.bad(path, f"{where}: precisions must be a list such as {list(PRECISIONS)}")
    return tuple(values)
