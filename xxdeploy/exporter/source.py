"""The model to export: built from a name of the catalog, loaded from a model file, or copied from this process."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.convert.user_model.quarantine.sniff import is_saved_model
from xxdeploy.datasets.images import batch_that_fits, file_digest, model_digest
from xxdeploy.datasets.table import is_table
from xxdeploy.errors import UsageError
from xxdeploy.exporter.find_pipeline import auto_pipeline, check_auto, doubt, sentence, with_pipeline
from xxdeploy.exporter.inputs import AUTO, Inputs, catalog_inputs, gather, sizing_of
from xxdeploy.exporter.option_fields import CLASSES, range_of, refuse
from xxdeploy.exporter.option_groups import NetworkOptions
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.models.catalog import ModelSpec, find
from xxdeploy.optional import extra
from xxdeploy.results import ModelOutput
from xxdeploy.runtime.inputs import InputForm, one_picture

if TYPE_CHECKING:
    import keras

    from xxdeploy.convert.user_model.describe import LoadedModel
    from xxdeploy.convert.user_model.image_output import ImageRequest
    from xxdeploy.convert.user_model.inputs import Asked
    from xxdeploy.convert.user_model.prepare import PreparedModel

_SETTLING_IMAGES = 8
"""Synthetic images, so that random weights do not depend on the calibration images."""

_FOR_PICTURES = ("resize", "resample", "crop_fraction", "pad_color", "background", "scale_twice")
_KNOWN_WEIGHTS = ("imagenet", "sample", "none")
SUFFIXES = (".keras", ".h5", ".hdf5")
Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class InMemory:
    """A model of this process: a ``keras.Model`` of Keras 3 or of ``tf_keras``."""

    model: Any

    @property
    def name(self) -> str:
        """Keras' name of the model."""
        return str(self.model.name)


Given = ModelSpec | Path | InMemory
"""What an export may be given: a network of the catalog, a model file, or a model in memory."""


@dataclass(frozen=True, slots=True)
class Source:
    """A Keras model with its inputs, for an export.

    ``input_names`` are those in the graph, in the order of ``inputs.preprocess``.
    ``name`` is the first part of the bundle's name, ``family`` the catalog's name of the network whose shipped recipe
    fits, if any; ``trained`` is False for random weights; ``facts`` is the manifest's ``source``. Accuracy is that of
    the first of ``outputs``.
    """

    name: str
    family: str | None
    trained: bool
    model: keras.Model
    inputs: Inputs
    facts: dict[str, Any]
    outputs: tuple[ModelOutput, ...]
    input_names: tuple[str, ...] = ("image",)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs in the graph."""
        return tuple(output.name for output in self.outputs)

    def with_notes(self, notes: tuple[str, ...]) -> Source:
        """Return the same with more notes for the user."""
        return replace(self, inputs=replace(self.inputs, notes=(*self.inputs.notes, *notes)))


def is_model_file(model: str) -> bool:
    """Return whether ``model`` means a file, or the folder of a SavedModel, rather than a name of the catalog."""
    return model.lower().endswith(SUFFIXES) or is_saved_model(Path(model))


def source_of(word: str) -> ModelSpec | Path:
    """Return the network that ``word`` names, or the path of a file or of a folder with a SavedModel or a bundle.

    ``UsageError``: ``unknown-model``; ``no-model-file`` if ``word`` looks like a path and there is no such file.
    """
    path = Path(word)
    holds_model = path.is_file() or any((path / name).exists() for name in ("saved_model.pb", "manifest.json"))
    if path.suffix.lower() in SUFFIXES or holds_model or (path.exists() and word != path.name):
        return path
    try:
        return find(word)
    except UsageError:
        if path.exists():
            return path
        if len(path.parts) == 1 and not path.suffix[1:].isalpha():
            raise
        close = difflib.get_close_matches(path.suffix.lower(), SUFFIXES, n=1)
        similar = [near for suffix in close if (near := path.with_suffix(suffix)).exists()]
        hint = f"did you mean {similar[0]}?" if similar else "check the folder and the spelling"
        raise UsageError(f"there is no file {word}", hint=hint, code="no-model-file") from None


def name_of(source: Given) -> str:
    """Return the first part of the bundle's name: the catalog's name, or that of the model in lower-case ASCII."""
    if isinstance(source, ModelSpec):
        return source.name
    name = (source.resolve().name if source.is_dir() else source.stem) if isinstance(source, Path) else source.name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name, flags=re.ASCII).strip("-._+")[:64].lower() or "model"


def asks_pictures(source: Given, options: ExportOptions) -> bool:
    """Return whether the pictures of ``--eval`` are asked for the pipeline: that of shipped weights is known."""
    is_known = isinstance(source, ModelSpec) and options.network.weights in _KNOWN_WEIGHTS
    of_classes = options.network.task in (None, "classification")
    return options.proof.evaluation is not None and of_classes and not is_known


def open_source(source: Given, options: ExportOptions, timed: Timed) -> Source:
    """Build or load the model, and open everything that ``options`` name. Errors as in :func:`export`.

    Options that do not fit are refused before TensorFlow is imported, unless that depends on the content of a model
    file.
    """
    if isinstance(source, ModelSpec):
        return _from_catalog(source, options, timed)
    return _from_user(source, options, timed)


def _from_catalog(spec: ModelSpec, options: ExportOptions, timed: Timed) -> Source:
    inputs, weights = catalog_inputs(spec, options), options.network.weights
    with extra("export"):
        from xxdeploy.convert.catalog.build import build_model
        from xxdeploy.convert.catalog.calibrate_batchnorm import settle_batch_norms, textures
    with timed("build"):
        model = build_model(spec, weights=weights, options=inputs.build)
        trained = weights != "none"
        if not trained:
            asked = inputs.picture
            count = batch_that_fits(_SETTLING_IMAGES, asked.height * asked.width)
            pictures = textures(count, asked.height, asked.width, asked.channels)
            settle_batch_norms(model, asked.normalize(pictures))
    if asks_pictures(spec, options):
        with timed("diagnose"):
            from xxdeploy.convert.runner import KerasRunner

            said = doubt(KerasRunner(model), inputs, options, Path(weights))
        inputs = replace(inputs, notes=(*inputs.notes, *said))
    if weights not in _KNOWN_WEIGHTS:
        weights = Path(weights).name  # a bundle does not name folders of the machine that made it
    facts = {
        "model": spec.name,
        "weights": weights,
        "options": {key: value for key, value in asdict(inputs.build).items() if value is not None},
    }
    return Source(spec.name, spec.name, trained, model, inputs, facts, (inputs.output,))


def _parts(path: Path, network: NetworkOptions) -> tuple[Path, Path | None]:
    """Return the file with the model, and that with the weights, None for a whole model."""
    if network.architecture is None:
        return path, _weights(path, network.weights)
    if network.weights != "imagenet":  # the default
        raise UsageError(
            f"--architecture takes {path.name} for the weights, and --weights {network.weights} names others",
            hint=f"xxdeploy export {network.architecture} --weights FILE, without --architecture",
            code="catalog-only",
        )
    return network.architecture, path


def _weights(path: Path, asked: str) -> Path | None:
    """Return the weights that belong to an architecture, None for a whole model."""
    if asked == "imagenet":  # the default
        return None
    if path.suffix.lower() == ".json":
        return Path(asked)
    raise UsageError(
        f"{path.name} contains its weights, and --weights {asked} names others",
        hint="leave out --weights, or give the architecture (MODEL.json) that the weights belong to",
        code="catalog-only",
    )


def load_user_model(
    source: Path | InMemory, options: ExportOptions, timed: Timed
) -> tuple[PreparedModel, tuple[str, ...]]:
    """Load or copy a user's model and prepare it for an export; return it with notes. Errors as in :func:`export`."""
    options.check_source("file", hint="choose an inner layer's output by --output-layer NAME")
    network = options.network
    with extra("export"):
        from xxdeploy.convert.user_model.prepare import prepare_model
    with timed("load"):
        loaded = _loaded(source, options)
        image = image_request(options)
        asked = _asked(options)
        prepared = prepare_model(
            loaded.model,
            output_layer=network.output_layer,
            task=network.task,
            image=image,
            transposed=network.transpose,
            asked=asked,
        )
    return prepared, (*loaded.notes, *prepared.notes)


def _signature(path: Path, network: NetworkOptions, images: Path | None) -> LoadedModel:
    """Load the signature that is asked for. ``UsageError`` ``saved-model-option``: of a file, or with its options."""
    from xxdeploy.convert.user_model.saved_model.load import load_saved_model, not_a_saved_model, refuse_file_options

    assert network.signature is not None
    if not is_saved_model(path):
        raise not_a_saved_model(path, network.signature)
    given = network.custom_objects, network.unsafe_lambda, network.inference_mode
    refuse_file_options(path, _parts(path, network)[1], *given)
    return load_saved_model(path, signature=network.signature, input_size=network.input_size, images=images)


def image_request(options: ExportOptions) -> ImageRequest:
    """Return what the options say about an output picture: its range, its classes, or a promise about either.

    ``UsageError`` ``output-range``: the task is another one, or the options are about both pixels and classes.
    """
    from xxdeploy.convert.user_model.image_output import ImageRequest

    network, proof = options.network, options.proof
    if network.output_range is not None and network.task != "image":
        raise UsageError(
            "--output-range is about a picture that the model outputs",
            hint="add --task image, or leave --output-range out",
            code="output-range",
        )
    pixels = None if network.output_range is None else range_of(network.output_range)
    about_classes = {
        f"--output-range {CLASSES}": network.output_range == CLASSES,
        "--labels": network.labels is not None,
        "--min-iou": proof.min_iou is not None,
    }
    about_pixels = {
        f"--output-range {network.output_range}": pixels is not None,
        "--min-psnr": proof.min_psnr is not None,
    }
    classes, range_given = ([name for name, given in about.items() if given] for about in (about_classes, about_pixels))
    if network.task == "image" and classes and range_given:
        raise UsageError(
            f"{classes[0]} is about a mask of classes, and {range_given[0]} about a picture",
            hint="leave one of them out",
            code="output-range",
        )
    return ImageRequest(pixels, True if classes else False if range_given else None)


def _loaded(source: Path | InMemory, options: ExportOptions) -> LoadedModel:
    network, evaluation = options.network, options.proof.evaluation
    images = None if evaluation is None or is_table(evaluation) else evaluation
    with extra("export"):
        from xxdeploy.convert.user_model.in_memory import copy_of_model
        from xxdeploy.convert.user_model.model_file import load_model_file
    if isinstance(source, InMemory):
        _check_in_memory(options)
        return copy_of_model(
            source.model, input_size=network.input_size, inference_mode=network.inference_mode, images=images
        )
    whole, weights = _parts(source, network)
    if network.signature is not None:
        return _signature(source, network, images)
    return load_model_file(
        whole,
        weights=weights,
        custom_objects=network.custom_objects,
        unsafe_lambda=network.unsafe_lambda,
        input_size=network.input_size,
        inference_mode=network.inference_mode,
        images=images,
        output_layer=network.output_layer,
    )


def _check_in_memory(options: ExportOptions) -> None:
    """Refuse the options that say how a file becomes a model. ``UsageError`` ``in-memory``."""
    network = options.network
    asked = {
        "weights": network.weights != "imagenet",
        "architecture": network.architecture is not None,
        "custom-objects": bool(network.custom_objects),
        "unsafe-lambda": network.unsafe_lambda,
        "signature": network.signature is not None,
    }
    if names := [name for name, given in asked.items() if given]:
        raise UsageError(
            f"the model in memory has its weights and its code, and {', '.join(names)} would name others",
            hint=f"leave out {', '.join(names)}",
            code="in-memory",
        )


def _asked(options: ExportOptions) -> Asked:
    """Return what --preprocess asks for each input. ``UsageError`` ``preprocess-names``."""
    from xxdeploy.convert.user_model.inputs import Asked

    asked = options.network.preprocess
    return Asked() if asked == AUTO else Asked.read(asked)


def _check_several(prepared: PreparedModel, preprocess: InputForm, options: ExportOptions) -> None:
    """Refuse what needs one output, one picture, or any picture.

    ``UsageError`` ``several-outputs``, ``not-one-picture``, ``no-picture``.
    """
    if not any(each.is_picture for each in prepared.described.inputs):
        refuse(
            (asked for asked in options.given() if asked.field in _FOR_PICTURES),
            f"to pictures only, and {prepared.described.name} reads arrays of numbers",
            hint="leave out",
            code="no-picture",
        )
    outputs = prepared.outputs
    if len(outputs) > 1 and (options.gpu.engine is not None or options.output.top_k is not None):
        names = ", ".join(output.name for output in outputs)
        raise UsageError(
            f"{'--top-k' if options.gpu.engine is None else 'an engine'} needs a model with one output, and this one "
            f"has {len(outputs)}: {names}",
            hint="--output-layer NAME",
            code="several-outputs",
        )
    if options.gpu.engine is not None:
        one_picture(preprocess, f"an engine: {prepared.described.name}")


def _from_user(source: Path | InMemory, options: ExportOptions, timed: Timed) -> Source:
    near = source if isinstance(source, Path) else None
    network, sizing = options.network, sizing_of(options)
    check_auto(options)
    prepared, notes = load_user_model(source, options, timed)
    with extra("export"):
        from xxdeploy.convert.runner import KerasRunner
        from xxdeploy.convert.user_model.preprocessing import choose_preprocess
    outputs = prepared.outputs
    runner = partial(KerasRunner, prepared.model, outputs=[output.name for output in outputs])
    if network.preprocess == AUTO:
        size = prepared.described.picture.shape
        with timed("diagnose"):
            diagnosis, orders = auto_pipeline(runner, prepared, options, near)
        options = with_pipeline(options, diagnosis, orders)
        preprocess: InputForm = diagnosis.chosen.preprocess((size[0], size[1], size[2]))
        notes += (sentence(diagnosis, orders),)
    else:
        preprocess, said = choose_preprocess(
            prepared.described, network.preprocess, sizing=sizing, twice=network.scale_twice
        )
        notes += said
    _check_several(prepared, preprocess, options)
    inputs = gather(options, preprocess, prepared.outputs[0], options.build, list(notes))
    listed = inputs.evaluation is not None and inputs.evaluation.is_table
    if asks_pictures(source, options) and not listed and network.preprocess != AUTO:
        with timed("diagnose"):
            inputs = replace(inputs, notes=(*inputs.notes, *doubt(runner(), inputs, options, near)))
    family = None if prepared.described.family is None else find(prepared.described.family).name
    facts = {**_facts(source, network, prepared.model), "family": family}
    asked = {
        "output_layer": network.output_layer,
        "task": network.task,
        "output_range": network.output_range,
        "signature": network.signature,
    }
    if prepared.task == "image" and network.output_range is None and prepared.classes is not None:
        asked["output_range"] = CLASSES  # said by another option, which the manifest does not keep
    facts |= {name: value for name, value in asked.items() if value is not None}
    if network.transpose:
        facts["transpose"] = True
    return Source(
        name_of(source), family, True, prepared.model, inputs, facts, (inputs.output, *outputs[1:]), prepared.inputs
    )


def _facts(source: Path | InMemory, network: NetworkOptions, model: keras.Model) -> dict[str, Any]:
    """Return the name and the digest of the files that a model was loaded from, or of the weights in memory."""
    if isinstance(source, InMemory):
        from xxdeploy.convert.user_model.in_memory import weights_digest

        return {"model": source.name, "weights_sha256": weights_digest(model), "in_memory": True}
    whole, weights = _parts(source, network)
    facts = {"model": whole.name, "sha256": model_digest(whole).hex()}
    if weights is not None:
        facts |= {"weights": weights.name, "weights_sha256": file_digest(weights).hex()}
    return facts
