"""Inspect a model file in a child process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xxdeploy import errors
from xxdeploy.convert.user_model.quarantine.archive import damaged
from xxdeploy.convert.user_model.quarantine.sniff import Kind, sniff
from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.files import child_python

_PATIENCE = 300.0  # seconds; a gigabyte takes about ten


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """A model file that passed the inspection.

    ``kind`` is the layout of its weights (``h5``: by layer name, ``keras``: that of an archive); ``config`` is its
    configuration without the training part; ``weights`` is an HDF5 file (the file itself, the one unpacked from the
    archive, or the one next to an architecture) of ``numbers`` numbers; ``keras_version`` wrote it, None if unknown;
    ``notes`` say which Lambda layers were translated, and what was cut off. ``order`` has name and class of each layer
    of the file if some were cut off.
    """

    path: Path
    kind: Kind
    config: Mapping[str, Any] = field(repr=False)
    weights: Path
    numbers: int
    keras_version: str | None
    notes: tuple[str, ...] = ()
    order: tuple[tuple[str, str], ...] = ()


def inspect_model_file(
    path: Path,
    folder: Path,
    *,
    weights: Path | None = None,
    custom: Collection[str] = (),
    unsafe_lambda: bool = False,
    output_layer: str | None = None,
) -> InspectedModel:
    """Inspect a model file without Keras, TensorFlow or any code of the file.

    Parameters
    ----------
    path : Path
        A ``.keras`` archive, an HDF5 file, or the JSON of ``model.to_json()``, under any name.
    folder : Path
        An empty folder to unpack the weights of a ``.keras`` archive into.
    weights : Path | None
        The HDF5 file of weights that belongs to ``path``, if that is the JSON of ``model.to_json()``.
    custom : Collection[str]
        Names of the user's own classes and functions, which may be used.
    unsafe_lambda : bool
        Whether the file may contain Python code, which will run when it is loaded.
    output_layer : str | None
        The layer whose output is asked for: layers that it does not need may be code, and are left out then.

    Raises
    ------
    UsageError
        ``no-model-file``, ``not-a-model``, ``weights-only``, ``custom-object``, ``lambda-layer``,
        ``unsupported-layer``, ``keras-1-layer``, ``weights-missing``, ``not-weights``, ``not-an-architecture``.
    ConversionError
        ``damaged-model``, ``unsafe-model``.
    """
    answer = ask(path, folder, weights=weights, custom=custom, unsafe_lambda=unsafe_lambda, output_layer=output_layer)
    if "error" in answer:
        raise error_of(answer)
    return InspectedModel(
        path,
        answer["kind"],
        answer["config"],
        Path(answer["weights"]),
        answer["numbers"],
        answer["keras_version"],
        tuple(answer["notes"]),
        tuple((name, kind) for name, kind in answer["order"]),
    )


def error_of(answer: Mapping[str, Any]) -> XXDeployError:
    """Return the error in the answer of the child process."""
    raised = answer["error"]
    error: XXDeployError = getattr(errors, raised["class"])(raised["message"], hint=raised["hint"], code=raised["code"])
    return error


def ask(
    path: Path,
    folder: Path,
    *,
    weights: Path | None = None,
    custom: Collection[str] = (),
    unsafe_lambda: bool = False,
    output_layer: str | None = None,
    signature: str | None = None,
) -> dict[str, Any]:
    """Return the answer of the child process: the fields of ``InspectedModel`` or an ``error``, and the ``facts``.

    Arguments and errors as :func:`inspect_model_file`; errors of the content are part of the answer. For a SavedModel
    folder the answer is that of ``saved_model.reader`` for one ``signature`` (None: the default); large constants are
    in ``folder``.
    """
    kind = sniff(path)
    if kind != "json" and weights is not None:
        raise UsageError(
            f"{path} is not an architecture, so {weights} cannot be its weights",
            hint="give the JSON that model.to_json() wrote; for a network of the catalog: xxdeploy export NETWORK "
            f"--weights {weights.name}",
            code="not-an-architecture",
        )
    if kind == "json" and weights is not None and sniff(weights) != "h5":
        raise UsageError(
            f"{weights} is not an HDF5 file of weights",
            hint="give the file that model.save_weights() wrote",
            code="not-weights",
        )
    request = {
        "weights": None if weights is None else str(weights.absolute()),
        "path": str(path.absolute()),
        "kind": kind,
        "folder": str(folder),
        "custom": sorted(custom),
        "unsafe_lambda": unsafe_lambda,
        "output_layer": output_layer,
        "signature": signature,
    }
    command, environment = child_python(
        "-m",
        "xxdeploy.convert.user_model.quarantine.child",
        OPENBLAS_NUM_THREADS="1",  # each thread reserves address space
        HDF5_PLUGIN_PRELOAD="::",  # the file must not choose shared libraries to load
    )
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, env=environment, timeout=_PATIENCE
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except subprocess.TimeoutExpired as error:
        raise damaged(path, f"its inspection took more than {_PATIENCE:.0f} seconds") from error
    except ValueError:
        answer = None
    if answer is None:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise damaged(path, f"the process that inspected it ended with status {done.returncode}: {''.join(said)}")
    if "error" in answer:
        answer["error"]["message"] = answer["error"]["message"].replace(str(path.absolute()), str(path))
    return dict(answer)
