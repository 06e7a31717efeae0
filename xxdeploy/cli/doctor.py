"""``xxdeploy doctor``: check this machine, or a model file."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.model_file import show_model
from xxdeploy.cli.output import AsJson, print_facts, print_json, print_line, print_table
from xxdeploy.doctor.checkup import Checkup, check_up
from xxdeploy.errors import MissingDependencyError, UsageError

EXAMPLE = """Examples:

  xxdeploy doctor
  xxdeploy doctor my_model.h5"""


def command(
    model: Path | None = None,
    /,
    *,
    weights: Path | None = None,
    custom_objects: tuple[str, ...] = (),
    unsafe_lambda: bool = False,
    signature: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Check Python, the processor and the libraries, and name missing ones. Takes a few seconds.

    The exit status is 3 if bundles cannot run here. With a model file, say in a second what it is, which Keras wrote
    it, and whether it will export; if not, the error and the exit status are those of the export.

    Parameters
    ----------
    model
        A model file of your own (.keras, .h5, .json) or a SavedModel folder. Without one, this machine is checked.
    weights
        The file of weights of an architecture (.json).
    custom_objects
        A layer or function of your own that the model uses, as module:name, as in `xxdeploy export`.
    unsafe_lambda
        Count Lambda layers of unknown code as exportable, as in `xxdeploy export`.
    signature
        The signature of a SavedModel folder, as in `xxdeploy export`.
    """
    if model is not None:
        show_model(
            model,
            weights=weights,
            custom_objects=custom_objects,
            unsafe_lambda=unsafe_lambda,
            signature=signature,
            as_json=as_json,
        )
        return
    if weights is not None or custom_objects or unsafe_lambda or signature is not None:
        raise UsageError(
            "--weights, --custom-objects, --unsafe-lambda and --signature belong to a model file, and none is given",
            hint="xxdeploy doctor MODEL",
            code="doctor-options",
        )
    checkup = check_up()
    if as_json:
        print_json(checkup)
    else:
        _show(checkup)
    broken = [library.name for library in checkup.libraries if library.extra == "edge" and library.state != "ok"]
    missing = all(library.state in ("ok", "missing") for library in checkup.libraries if library.extra == "edge")
    if broken:
        raise MissingDependencyError(
            f"bundles cannot run here: {', '.join(broken)} cannot be imported",
            hint="pip install 'xxdeploy[edge]'" if missing else "the warnings of `xxdeploy doctor` say what helps",
            code="cannot-run",
        )


def _show(checkup: Checkup) -> None:
    print_facts(
        {
            "xxdeploy": checkup.xxdeploy,
            "Python": checkup.python,
            "platform": checkup.platform,
            "processor": f"{checkup.cores} cores, {' '.join(checkup.cpu_features) or 'no INT8 instructions known'}",
            "threads": checkup.threads,
            "providers": "\n".join(checkup.providers) or "-",
            "engines": "\n".join(checkup.engines),
            "Keras' cache": str(checkup.keras_home),
            "cached weights": "\n".join(checkup.weights) or "none",
        }
    )
    print_line()
    print_table(
        ("library", "version", "state"),
        [(library.name, library.version, library.state) for library in checkup.libraries],
        left=3,
    )
    print_line()
    missing = [library for library in checkup.libraries if library.state == "missing"]
    for extra in dict.fromkeys(library.extra for library in missing):
        names = ", ".join(library.name for library in missing if library.extra == extra)
        print_line(f"for {names}: pip install 'xxdeploy[{extra}]'")
    for warning in checkup.warnings:
        print_line(f"warning: {warning.message}")
        print_line(f" hint: {warning.hint}")
