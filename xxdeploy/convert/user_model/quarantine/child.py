"""The child process: ``python -m xxdeploy.convert.user_model.quarantine.child``.

Reads a request from stdin and writes an answer to stdout, both JSON; an error is part of the answer.
"""

from __future__ import annotations

import gc
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from xxdeploy.convert.user_model.keras1_config import is_keras_1, keras2_from_keras1, with_input_layers
from xxdeploy.convert.user_model.lambdas.replace import without_lambdas
from xxdeploy.convert.user_model.quarantine.archive import MAX_CONFIG, read_archive, unsafe
from xxdeploy.convert.user_model.quarantine.check import check_classes, read_config, without_training
from xxdeploy.convert.user_model.quarantine.cut import cut_at, inputs_of, layer_order, left_out
from xxdeploy.convert.user_model.quarantine.facts import facts_of
from xxdeploy.convert.user_model.quarantine.hdf5 import is_by_layer_name, read_hdf5
from xxdeploy.convert.user_model.quarantine.saved_model.reader import read_saved_model
from xxdeploy.convert.user_model.recurrent_weights import without_cudnn
from xxdeploy.errors import UsageError, XXDeployError

MEMORY = 1 << 30
"""Bytes of address space; an ordinary file needs a tenth of it."""


def inspect(
    path: Path,
    kind: str,
    folder: Path,
    *,
    weights: Path | None = None,
    custom: frozenset[str] = frozenset(),
    unsafe_lambda: bool = False,
    output_layer: str | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Check everything in a file that Keras would read; return the fields of ``InspectedModel``.

    ``facts`` receives the facts of the file as they are found, so that they are known if it is refused.
    """
    facts = {} if facts is None else facts
    if kind == "keras":
        text, metadata, weights = read_archive(path, folder)
        configured, _, numbers, parameters = read_hdf5(weights, path)
        version = _version(metadata)
        facts |= {"form": "a .keras archive", "parameters": parameters}
        if configured is not None:
            raise unsafe(path, "its weights file contains a second model")
    elif kind == "json":
        text = _small(path)
        facts |= {"form": "an architecture (JSON)", "keras_version": _version(text)}
        facts |= facts_of(without_training(read_config(text, path)))
        if weights is None:
            raise UsageError(
                f"{path} holds the architecture of a model (JSON), not its weights",
                hint=f"name both: xxdeploy export {path.name} --weights WEIGHTS.h5",
                code="weights-missing",
            )
        _, saved, numbers, facts["parameters"] = read_hdf5(weights, weights)
        version = _version(text) or (saved.decode(errors="replace") if saved else None)
        kind = "h5" if is_by_layer_name(weights) else "keras"
    else:
        weights = path
        configured, saved, numbers, facts["parameters"] = read_hdf5(path, path)
        version = saved.decode(errors="replace") if saved else None
        facts |= {"form": "an HDF5 file" if configured else "an HDF5 file of weights", "keras_version": version}
        if configured is None:
            raise UsageError(
                f"{path} contains weights without a model",
                hint="name the network, or the file that model.to_json() wrote: xxdeploy export NETWORK --weights "
                f"{path.name}, or xxdeploy export {path.name} --architecture MODEL.json; or save the whole model "
                "with model.save('NAME.keras')",
                code="weights-only",
            )
        text = configured
    facts["keras_version"] = version
    config = without_training(read_config(text, path))
    facts |= facts_of(config)
    config, replaced = without_cudnn(config, custom)
    config, notes, order = _checked(config, path, version, custom, unsafe_lambda, output_layer)
    return {
        "kind": kind,
        "config": config,
        "weights": str(weights),
        "numbers": numbers,
        "keras_version": version,
        "notes": (*replaced, *notes),
        "order": order,
    }


def _checked(
    config: dict[str, Any],
    path: Path,
    version: str | None,
    custom: frozenset[str],
    unsafe_lambda: bool,
    output_layer: str | None,
) -> tuple[dict[str, Any], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the configuration without Lambda layers, notes, and the layers of the file if some were cut off.

    Layers that ``output_layer`` does not need are cut off if they are refused, or have inputs of their own.
    """

    def checked(config: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        config, notes = without_lambdas(config, version, custom)
        check_classes(config, path, custom=custom, unsafe_lambda=unsafe_lambda, version=version)
        return config, notes

    config = with_input_layers(keras2_from_keras1(config) if is_keras_1(config) else config)
    part = None if output_layer is None else cut_at(config, output_layer)
    if part is None or inputs_of(part) == inputs_of(config):
        try:
            return *checked(config), ()
        except UsageError:
            if part is None:
                raise
    order = layer_order(config)
    config, notes = checked(part)
    return config, (*notes, f"left out, since {output_layer} does not need them: {left_out(order, part)}"), order


def _small(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(MAX_CONFIG + 1)
    if len(text) > MAX_CONFIG:
        raise unsafe(path, f"it has more than {MAX_CONFIG:,} bytes")
    return text


def _version(metadata: bytes | None) -> str | None:
    with suppress(ValueError, RecursionError):
        facts = json.loads(metadata or b"null")
        if isinstance(facts, dict) and isinstance(facts.get("keras_version"), str):
            return str(facts["keras_version"])[:40]
    return None


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # not on Windows; or a lower limit is set already
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    gc.disable()  # a configuration of a million lists would be searched for cycles again and again
    _limit_memory()
    path = Path(request["path"])
    answer: dict[str, Any]
    facts: dict[str, Any] = {}
    folder = Path(request["folder"])
    try:
        answer = (
            read_saved_model(path, folder, request["signature"], facts)
            if request["kind"] == "saved-model"
            else inspect(
                path,
                request["kind"],
                folder,
                weights=None if request["weights"] is None else Path(request["weights"]),
                custom=frozenset(request["custom"]),
                unsafe_lambda=request["unsafe_lambda"],
                output_layer=request["output_layer"],
                facts=facts,
            )
        )
    except XXDeployError as error:
        answer = _error(error)
    except MemoryError:
        answer = _error(unsafe(path, f"its inspection takes more than {MEMORY >> 20} MB of memory"))
    json.dump({**answer, "facts": facts}, sys.stdout)


def _error(error: XXDeployError) -> dict[str, Any]:
    return {
        "error": {
            "class": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "code": error.code,
        }
    }


if __name__ == "__main__":
    main()
