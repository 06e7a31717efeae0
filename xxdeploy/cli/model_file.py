"""Print the facts of a Keras file and whether it will export: ``xxdeploy doctor MODEL``, ``xxdeploy inspect MODEL``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xxdeploy.cli.output import plain, print_facts, print_json, print_line
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.convert.user_model.examine import ExaminedModel


def show_model(
    path: Path,
    *,
    weights: Path | None = None,
    custom_objects: Sequence[str] = (),
    unsafe_lambda: bool = False,
    signature: str | None = None,
    as_json: bool,
) -> None:
    """Print the facts of a model file; raise the error that its export would raise, after them."""
    with extra("export"):
        from xxdeploy.convert.user_model.examine import examine_model_file
    model = examine_model_file(
        path, weights=weights, custom_objects=custom_objects, unsafe_lambda=unsafe_lambda, signature=signature
    )
    if as_json:
        facts = plain({name: getattr(model, name) for name in model.__dataclass_fields__ if name != "problem"})
        problem = model.problem
        told = None if problem is None else {"code": problem.code, "message": problem.message, "hint": problem.hint}
        print_json({**facts, "exports": problem is None, "problem": told})
    elif model.form is not None:
        print_facts(
            {
                "file": f"{path} is {model.form}",
                "written by": _writer(model),
                "model": model.name or "-",
                **({"signatures": "\n".join(model.signatures)} if model.signatures else {}),
                "inputs": "\n".join(f"{name} {_shape(shape)}" for name, shape in model.inputs) or "-",
                "outputs": "\n".join(model.outputs) or "-",
                "layers": "-" if model.layers is None else f"{model.layers:,}",
                "parameters": "-" if model.parameters is None else f"{model.parameters:,}",
            }
        )
        print_line()
        for note in model.notes:
            print_line(f"note: {note}", hang=2)
    if model.problem is not None:
        raise model.problem
    if not as_json:
        print_line("it will export, as far as can be told before Keras builds it")


def _writer(model: ExaminedModel) -> str:
    if model.tensorflow_version:
        return f"TensorFlow {model.tensorflow_version}"
    return f"Keras {model.keras_version}" if model.keras_version else "an unknown version of Keras"


def _shape(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"
