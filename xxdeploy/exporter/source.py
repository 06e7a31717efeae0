"""Where the model comes from: a name of the catalog, or a file of the user's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.datasets.batch_size import batch_that_fits
from xxdeploy.errors import UsageError
from xxdeploy.exporter.options import ExportPlan, Inputs, follow, gather, resize_of
from xxdeploy.models.catalog import ModelSpec, find
from xxdeploy.optional import extra
from xxdeploy.results import ModelOutput

if TYPE_CHECKING:
    import keras

_SETTLING_IMAGES = 8
"""Made-up pictures: random weights shall not depend on what a person calibrates on."""

SUFFIXES = (".keras", ".h5", ".hdf5")
Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Source:
    """A Keras model and what the export has to know of it.

    ``outputs`` are the model's, in its order; the first is the one that is measured. ``name`` is what bundles are
    called after; ``family`` the catalog name whose shipped recipe fits; ``trained`` is False for random weights;
    ``facts`` say in the manifest where it came from.
    """

    name: str
    family: str | None
    trained: bool
    model: keras.Model
    inputs: Inputs
    facts: dict[str, Any]
    outputs: tuple[ModelOutput, ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return what the outputs are called in the graph."""
        return tuple(output.name for output in self.outputs)


def name_of(source: ModelSpec | Path) -> str:
    """Return what bundles of ``source`` are called: the catalog's name, or the file's in letters that names hold."""
    if isinstance(source, ModelSpec):
        return source.name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", source.stem, flags=re.ASCII).strip("-._+")[:64].lower() or "model"


def open_source(source: ModelSpec | Path, plan: ExportPlan, timed: Timed) -> Source:
    """Build or load the model, and open everything that ``plan`` names.

    Of a catalog network all that can be refused is refused before TensorFlow is imported; what a file holds is known
    only once it was looked at.

    Raises
    ------
    XXDeployError
        Those of ``follow``, ``build_model``, ``load_model_file``, ``prepare_own_model`` and ``own_preprocess``.
    """
    return _from_catalog(source, plan, timed) if isinstance(source, ModelSpec) else _from_file(source, plan, timed)


def _from_catalog(spec: ModelSpec, plan: ExportPlan, timed: Timed) -> Source:
    inputs = follow(spec, plan)
    with extra("export"):
        from xxdeploy.convert.catalog.build import build_model
        from xxdeploy.convert.catalog.calibrate_batchnorm import settle_batch_norms, textures
    with timed("build"):
        model = build_model(spec, weights=plan.weights, options=inputs.options)
        if plan.weights == "none":
            asked = inputs.preprocess
            count = batch_that_fits(_SETTLING_IMAGES, asked.height, asked.width)
            pictures = textures(count, asked.height, asked.width, asked.channels)
            settle_batch_norms(model, asked.normalize(pictures))
    weights = plan.weights
    if weights not in ("imagenet", "sample", "none"):
        weights = Path(weights).name  # a bundle says nothing about the folders of the machine that made it
    facts = {
        "model": spec.name,
        "weights": weights,
        "options": {key: value for key, value in asdict(inputs.options).items() if value is not None},
    }
    outputs = (ModelOutput("features" if inputs.classes is None else "probabilities", inputs.classes),)
    return Source(spec.name, spec.name, plan.weights != "none", model, inputs, facts, outputs)


def _from_file(path: Path, plan: ExportPlan, timed: Timed) -> Source:
    options = plan.options
    if (options.alpha, options.classes, options.pooling, options.include_top) != (None, None, None, True):
        raise UsageError(
            "--alpha, --classes, --pooling and --no-top build a network of the catalog, and this is a model file",
            hint="leave them out; --output-layer NAME takes the result of an inner layer",
            code="catalog-only",
        )
    if plan.weights != "imagenet":
        raise UsageError(
            f"{path.name} holds its weights; --weights {plan.weights} says something else",
            hint="leave --weights out",
            code="catalog-only",
        )
    with extra("export"):
        from xxdeploy.convert.user_model.model_file import load_model_file
        from xxdeploy.convert.user_model.own_preprocess import own_preprocess
        from xxdeploy.convert.user_model.prepare import prepare_own_model
    with timed("load"):
        loaded = load_model_file(
            path,
            custom_objects=plan.custom_objects,
            unsafe_lambda=plan.unsafe_lambda,
            input_size=options.input_size,
        )
        prepared = prepare_own_model(loaded.model, output_layer=plan.output_layer, task=plan.task)
    if len(prepared.outputs) > 1 and plan.engine is not None:
        raise UsageError(
            f"the model has {len(prepared.outputs)} outputs: {', '.join(each.name for each in prepared.outputs)}",
            hint="an engine has one: --output-layer NAME",
            code="several-outputs",
        )
    if len(prepared.outputs) > 1 and plan.top_k is not None:
        raise UsageError(
            f"the model has {len(prepared.outputs)} outputs: {', '.join(each.name for each in prepared.outputs)}",
            hint="--top-k is for models with one: leave it out, or --output-layer NAME",
            code="several-outputs",
        )
    preprocess, said = own_preprocess(prepared.own, plan.preprocess, resize=resize_of(plan))
    notes = [*loaded.notes, *prepared.notes, *said]
    inputs = gather(plan, preprocess, prepared.classes, options, notes)
    family = None if prepared.own.family is None else find(prepared.own.family).name
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"model": path.name, "sha256": digest, "family": family}
    if plan.output_layer is not None:
        facts["output_layer"] = plan.output_layer
    if plan.task is not None:
        facts["task"] = plan.task
    return Source(name_of(path), family, True, prepared.model, inputs, facts, prepared.outputs)
