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
from xxdeploy.files import child_python

_PATIENCE = 300.0  # seconds; a gigabyte takes about ten


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """A model file that passed the inspection.

    ``config`` is its configuration without the training part; ``weights`` is an HDF5 file (the file itself, or the one
    unpacked from the archive) of ``numbers`` numbers; ``keras_version`` wrote it, None if unknown.
    """

    path: Path
    kind: Kind
    config: Mapping[str, Any] = field(repr=False)
    weights: Path
    numbers: int
    keras_version: str | None


def inspect_model_file(
    path: Path, folder: Path, *, custom: Collection[str] = (), unsafe_lambda: bool = False
) -> InspectedModel:
    """Inspect a model file without Keras, TensorFlow or any code of the file.

    Parameters
    ----------
    path : Path
        A ``.keras`` archive or an HDF5 file, under any name.
    folder : Path
        An empty folder to unpack the weights of a ``.keras`` archive into.
    custom : Collection[str]
        Names of the user's own classes and functions, which may be used.
    unsafe_lambda : bool
        Whether the file may contain Python code, which will run when it is loaded.

    Raises
    ------
    UsageError
        ``no-model-file``, ``not-a-model``, ``weights-only``, ``custom-object``, ``lambda-layer``,
        ``unsupported-layer``, ``keras-1-layer``.
    ConversionError
        ``damaged-model``, ``unsafe-model``.
    """
    kind = sniff(path)
    request = {
        "path": str(path.absolute()),
        "kind": kind,
        "folder": str(folder),
        "custom": sorted(custom),
        "unsafe_lambda": unsafe_lambda,
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
        raised = answer["error"]
        message = raised["message"].replace(request["path"], str(path))
        raise getattr(errors, raised["class"])(message, hint=raised["hint"], code=raised["code"])
    weights = Path(answer["weights"])
    return InspectedModel(path, kind, answer["config"], weights, answer["numbers"], answer["keras_version"])
