"""Tell what a model file is and whether it will export, without Keras and TensorFlow.

The verdict is that of the export's own steps, as far as they go before Keras builds the model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxdeploy.convert.user_model.custom_objects import custom_names
from xxdeploy.convert.user_model.inputs import NOTHING, read_inputs
from xxdeploy.convert.user_model.model_file import adapted
from xxdeploy.convert.user_model.quarantine.facts import facts_of
from xxdeploy.convert.user_model.quarantine.inspect import InspectedModel, ask, error_of
from xxdeploy.convert.user_model.quarantine.sniff import is_saved_model
from xxdeploy.convert.user_model.saved_model.load import refuse_file_options, sized
from xxdeploy.convert.user_model.saved_model.signature import shape_of
from xxdeploy.errors import XXDeployError


@dataclass(frozen=True, slots=True)
class ExaminedModel:
    """Facts of a model file, None or empty where it does not say them, and the error that its export would raise.

    ``tensorflow_version`` and ``signatures`` are those of a SavedModel folder, ``keras_version`` that of a file.

    ``inputs`` are names and shapes with the batch axis; ``outputs`` names of layers; ``layers`` counts those of nested
    models, too; ``parameters`` counts the numbers in the file without those of an optimizer. ``problem`` is None if
    each step before Keras builds the model accepts the file.
    """

    path: Path
    form: str | None
    keras_version: str | None
    tensorflow_version: str | None
    name: str | None
    layers: int | None
    parameters: int | None
    inputs: tuple[tuple[str, tuple[int | None, ...]], ...]
    outputs: tuple[str, ...]
    signatures: tuple[str, ...]
    notes: tuple[str, ...]
    problem: XXDeployError | None


def examine_model_file(
    path: Path,
    *,
    weights: Path | None = None,
    custom_objects: Sequence[str] = (),
    unsafe_lambda: bool = False,
    signature: str | None = None,
) -> ExaminedModel:
    """Examine a model file within a second; arguments as ``model_file.load_model_file``. Raises nothing of its own."""
    facts: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    problem: XXDeployError | None = None
    try:
        custom = custom_names(custom_objects)
        with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
            answer = ask(
                path,
                Path(folder),
                weights=weights,
                custom=custom,
                unsafe_lambda=unsafe_lambda,
                signature=signature,
            )
        facts = answer["facts"]
        if "error" in answer:
            raise error_of(answer)
        if is_saved_model(path):
            refuse_file_options(path, weights, custom_objects, unsafe_lambda, False)
            shapes, notes = sized(path, [shape_of(given) for given in answer["inputs"]], None, None)
            named = [(f"input_{index}", shape) for index, shape in enumerate(shapes)]
            read_inputs(path.name, named, NOTHING, lambda: None)
        else:
            changed, notes, again = _of_configuration(path, answer)
            facts |= {key: again[key] for key in ("inputs", "outputs") if again.get(key)}
            if again.get("inputs"):
                read_inputs(again["name"], again["inputs"], NOTHING, lambda: _resized(changed))
    except XXDeployError as error:
        problem = error
    return ExaminedModel(
        path,
        facts.get("form"),
        facts.get("keras_version"),
        facts.get("tensorflow_version"),
        facts.get("name"),
        facts.get("layers"),
        facts.get("parameters"),
        tuple((name, tuple(shape)) for name, shape in facts.get("inputs", ())),
        tuple(facts.get("outputs", ())),
        tuple(facts.get("signatures", ())),
        notes,
        problem,
    )


def _of_configuration(path: Path, answer: dict[str, Any]) -> tuple[Any, tuple[str, ...], dict[str, Any]]:
    """Return the configuration that Keras would build, notes, and its facts."""
    read = ("kind", "config", "weights", "numbers", "keras_version", "notes")
    kind, config, place, numbers, version, said = (answer[key] for key in read)
    file = InspectedModel(path, kind, config, Path(place), numbers, version, tuple(said))
    changed, notes = adapted(file, None, False)
    return changed, notes, facts_of(changed)


def _resized(config: Any) -> tuple[int, int] | None:
    """Return height and width of the first ``Resizing`` layer of a configuration."""
    for value in _objects(config):
        inner = value.get("config")
        if value.get("class_name") == "Resizing" and isinstance(inner, dict):
            height, width = inner.get("height"), inner.get("width")
            return (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(item)
