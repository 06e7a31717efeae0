"""The images, labels and recipes that the options name: opened and checked before any work is done."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xxdeploy.datasets import (
    CalibrationRecipe,
    ImageSet,
    Labels,
    crops_of,
    has_labels,
    imagenet_labels,
    infer_labels,
    load_labels,
    open_samples,
    overlap,
    recipe_from,
)
from xxdeploy.datasets.decoded import Batches, Decoded
from xxdeploy.datasets.scaling_file import scaling_for
from xxdeploy.datasets.table import expected_columns, measured_spans
from xxdeploy.datasets.texts import open_texts
from xxdeploy.errors import UsageError
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.promises import alphabet, check_evaluation, check_top_k
from xxdeploy.models.catalog import BuildOptions, ModelSpec
from xxdeploy.models.options import check_options, image_size, output_classes
from xxdeploy.models.samples import PHOTOS, sample_for, sample_options, shipped_folder, shipped_set
from xxdeploy.results import WARNING, ModelOutput
from xxdeploy.runtime.image.picture import DROP
from xxdeploy.runtime.image.preprocess import Preprocess, Sizing
from xxdeploy.runtime.inputs import InputForm, changed_pictures, one_picture

AUTO = "auto"
"""The value of ``--preprocess`` that asks the pictures of ``--eval``."""
DEFAULT_SAMPLES = 300
SELECTION = 256
"""The largest number of images on which the ladder judges its rungs."""
_FEWEST = 16
"""The smallest number of images that can judge a rung; with fewer, the calibration images judge it."""
LARGEST_OUTPUTS = 1 << 30
"""Bytes of the outputs of one model for all images that it is compared on."""
DEFAULT_METHOD = "percentile-99.99"
"""Chosen on training images that were not calibrated on: MobileNetV2 gains 1.6 points of agreement over min-max,
MobileNet nothing."""
PHOTOS_ON_IMAGENET = (
    "these photographs ship with xxdeploy: with them MobileNetV2 kept 98.5 % of its classes on ImageNet, "
    "and 98.7 % with 300 images of ImageNet"
)
PHOTOS_ELSEWHERE = "WARNING: the photographs ship with xxdeploy, and may be of another kind than the model's images"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images, labels and preprocessing that the options name, opened and checked.

    ``build`` says how Keras builds the network, completed by the sample weights where they are asked for; ``output`` is
    the model's first one, the one that is measured. ``calibration``, ``selection`` (to judge the rungs of the ladder)
    and ``evaluation`` are disjoint. ``method`` is the calibrator that the options or the calibration set name;
    ``notes`` are sentences for the user; one that gives a reason to doubt the input begins with ``WARNING:``.
    """

    build: BuildOptions
    preprocess: InputForm
    output: ModelOutput
    labels: Labels | None
    calibration: ImageSet | None
    selection: ImageSet | None
    method: str | None
    evaluation: ImageSet | None
    notes: tuple[str, ...]
    decoded: Decoded = field(default_factory=Decoded, repr=False, compare=False)

    def batches(self, images: ImageSet, size: int) -> Batches:
        """Yield the preprocessed batches of some of these images; each picture is decoded once. Errors as there."""
        return self.decoded.batches(images, self.preprocess, size)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the notes that give a reason to doubt the input."""
        return tuple(note for note in self.notes if note.startswith(WARNING))

    @property
    def picture(self) -> Preprocess:
        """The preprocessing of a model of one picture; ``UsageError`` ``not-one-picture`` for any other."""
        return one_picture(self.preprocess, "the model")

    @property
    def task(self) -> str:
        """The task of the first output."""
        return self.output.task

    @property
    def classes(self) -> int | None:
        """The number of classes of the first output; None without."""
        return self.output.classes

    def data_digest(self, images: ImageSet) -> str:
        """Return the SHA-256 of the images and their preprocessing, on both of which a calibration depends."""
        how = json.dumps(self.preprocess.to_json(), sort_keys=True)
        return hashlib.sha256(f"{images.digest}\n{how}".encode()).hexdigest()


def catalog_inputs(spec: ModelSpec, options: ExportOptions) -> Inputs:
    """Open the inputs of a network of the catalog. Errors as :func:`gather`, ``check_options``, ``check_source``."""
    build, notes, labels = options.build, [], None
    if options.network.weights == "sample":
        build, sample = sample_options(spec, build), sample_for(spec)
        notes.append(sample.statement)
        labels = Labels(sample.labels)
        options = options.changed(
            evaluation=options.proof.evaluation or sample.evaluation,
            calibration=options.precision.calibration or sample.calibration,
        )
    elif options.network.weights == "imagenet" and options.precision.int8 and options.precision.calibration is None:
        options = options.changed(calibration=Path(PHOTOS))
    check_options(spec, build, weights=options.network.weights)
    options.check_source(
        "catalog", hint=f"save keras.applications.{spec.title}, or your own model, as a .keras file and export that"
    )
    if options.network.preprocess == AUTO:
        raise UsageError(
            f"--preprocess auto is for model files, and {spec.name} is of the catalog, which knows its preprocessing",
            hint="leave --preprocess out; `xxdeploy diagnose` compares other ways",
            code="auto-preprocess",
        )
    size = image_size(spec, build)
    mode, scaling = scaling_for(options.network.preprocess or spec.preprocess, spec.channels)
    preprocess = Preprocess(size, size, spec.channels, mode, sizing_of(options), scaling)
    of_imagenet = options.network.weights == "imagenet"
    classes = output_classes(spec, build)
    output = ModelOutput("features" if classes is None else "probabilities", classes)
    return gather(options, preprocess, output, build, notes, labels=labels, of_imagenet=of_imagenet)


def sizing_of(options: ExportOptions) -> Sizing:
    """Return how pictures are brought to size: as asked, as the calibration set says, or squashed.

    ``UsageError`` ``sizing-options``: options that contradict each other; those of the recipe.
    """
    network, recipe = options.network, _recipe(options)
    given: dict[str, Any] = {"resize": network.resize or (recipe.resize if recipe else None) or "squash"}
    if network.resample is not None:
        given["resample"] = network.resample
    if network.crop_fraction is not None:
        given["crop_fraction"] = float(network.crop_fraction)
    if network.pad_color is not None:
        given["pad_color"] = _color(network.pad_color)
    try:
        return Sizing(**given)
    except UsageError as error:
        raise UsageError(
            error.message,
            hint="--crop-fraction goes with --resize crop, --pad-color with --resize pad, and --resize fit with a "
            "--resample of Pillow's",
            code="sizing-options",
        ) from error


def _color(text: str) -> tuple[int, ...]:
    """Read ``--pad-color``: a number, or one for each channel."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise UsageError(
            f"--pad-color {text!r} is not a color",
            hint="give one number of 0 to 255, or three with commas: --pad-color 255,255,255",
            code="sizing-options",
        )
    return tuple(map(int, parts))


def gather(
    options: ExportOptions,
    preprocess: InputForm,
    output: ModelOutput,
    build: BuildOptions,
    notes: list[str],
    *,
    labels: Labels | None = None,
    of_imagenet: bool = False,
) -> Inputs:
    """Open the images and labels that ``options`` name, for a model with a known input and first ``output``.

    ``labels`` are the classes' names if the weights bring them; ``of_imagenet``: it was trained on ImageNet.

    Raises
    ------
    UsageError
        Those of the datasets, labels and recipes; ``calibration-missing``, ``overlap``, ``features-evaluation``,
        ``class-order``, ``labels-count``, ``max-drop-without-eval``, ``min-agreement-without-eval``,
        ``threshold-without-eval``, ``top-k-invalid``.
    """
    evaluation, recipe = options.proof.evaluation, _recipe(options)
    preprocess = changed_pictures(preprocess, background=options.network.background or DROP)
    if output.task == "sequence":
        labels, output = alphabet(options, output)
    else:
        labels = _labels(options, output, labels, notes)
    check_evaluation(options, output)
    check_top_k(options.output.top_k, output)

    seen = None
    if evaluation and output.task == "sequence" and labels is not None:
        seen, truths, where = open_texts(evaluation, labels)
        output, notes = replace(output, truths=truths), [*notes, *seen.notes, where]
    elif evaluation:
        seen = _open_evaluation(evaluation, preprocess, options, output, labels)
        notes += seen.notes
        seen = images_that_fit(seen, output, notes)
    images = selection = None
    if options.precision.int8:
        if recipe is None:
            hint = (
                "--calibration FOLDER with a few hundred images like those that the device will see (no labels "
                "needed); to try INT8 without any, --calibration photos"
                if isinstance(preprocess, Preprocess)
                else f"--calibration FILE: a CSV with the columns {expected_columns(preprocess)} (no label needed)"
            )
            message = "INT8 needs calibration images, and none are given"
            raise UsageError(message, hint=hint, code="calibration-missing")
        named = labels if output.task == "classification" else None
        images, selection = _calibration_sets(options, recipe, named, preprocess)
        selection = None if selection is None else images_that_fit(selection, output, notes)
        if recipe.smallest_crop is not None:
            notes += _about_crops(recipe, images, selection, of_imagenet=of_imagenet)
        if selection is None:
            few = f"{len(images)} calibration images are too few to hold any back: rungs are judged on them, too"
            notes.append(few)
    elif recipe is not None:
        images = _calibration_sample(options, recipe, None, preprocess)[1]
    for used in (images, selection):
        if used is not None and seen is not None and (shared := overlap(used, seen)):
            raise UsageError(  # the ranges were fitted to these images, which flatters accuracy
                f"{len(shared)} images are in both the calibration and the evaluation set, such as {shared[0][0]}",
                hint="evaluate on images that the model was not calibrated on",
                code="overlap",
            )
    notes += images.notes if images is not None else ()
    method = options.precision.method or (recipe.method if recipe else None)
    preprocess, said = measured_spans(preprocess, images or seen)
    notes += said
    return Inputs(build, preprocess, output, labels, images, selection, method, seen, tuple(notes))


def _open_evaluation(
    path: Path, form: InputForm, options: ExportOptions, output: ModelOutput, labels: Labels | None
) -> ImageSet:
    """Open the evaluation images: labeled for a classifier; other tasks are compared with Keras, without labels."""
    if output.task != "classification":
        return open_samples(path, form)
    return open_samples(path, form, labels=labels, require_labels=True, class_order=options.network.class_order)


def images_that_fit(images: ImageSet, output: ModelOutput, notes: list[str]) -> ImageSet:
    """Return as many images as have outputs of ``LARGEST_OUTPUTS`` together, since two models' are compared in memory.

    The outputs of classifiers are small, and those of features are not compared on evaluation images.
    """
    size = 4 * math.prod(output.shape) if output.task in ("image", "values") else 0
    most = max(1, LARGEST_OUTPUTS // size) if size else len(images)
    if len(images) <= most:
        return images
    notes.append(f"{most} of the {len(images)} images of {images.root.name} are compared: an output has {size:,} bytes")
    return images.sample(most)


def labels_for(options: ExportOptions, classes: int) -> Labels:
    """Return the names of a model's classes by the options. ``UsageError``: as ``gather``; ``labels-missing``."""
    labels = _labels(options, ModelOutput("probabilities", classes), None, [])
    if labels is None:
        raise UsageError(
            f"the classes of the pictures in {options.proof.evaluation} cannot be matched: the network has no labels",
            hint="add --labels FILE with one class name per line, in the order of the outputs",
            code="labels-missing",
        )
    return labels


def _recipe(options: ExportOptions) -> CalibrationRecipe | None:
    asked = options.precision
    return None if asked.name == "fp32" or asked.calibration is None else calibration_recipe(asked.calibration)


def calibration_recipe(asked: Path) -> CalibrationRecipe:
    """Return the recipe of --calibration: a folder, a recipe's file, or the name of a set that ships.

    A file or folder of that name comes first. ``UsageError``: as ``recipe_from``; ``no-shipped-folder``.
    """
    shipped = None if asked.exists() else shipped_set(str(asked))
    return recipe_from(shipped or asked)


def _calibration_sets(
    options: ExportOptions, recipe: CalibrationRecipe, labels: Labels | None, form: InputForm
) -> tuple[ImageSet, ImageSet | None]:
    """Return the images to calibrate on, and other images of the same folder to judge by."""
    if recipe.smallest_crop is not None:
        return _crop_sets(options, recipe, recipe.smallest_crop, form)
    everything, images, seed = _calibration_sample(options, recipe, labels, form)
    rest = everything.apart_from(images)
    if rest is not None and len(rest) >= max(_FEWEST, min(SELECTION, len(images) // 4)):
        return images, rest.sample(min(SELECTION, len(rest)), seed)
    # The folder has too few other images: a quarter of the sample is held back.
    held = images.sample(max(1, len(images) // 4), seed + 1)
    kept = images.apart_from(held)
    return (kept, held) if kept is not None and len(held) >= _FEWEST else (images, None)


def _crop_sets(
    options: ExportOptions, recipe: CalibrationRecipe, smallest: float, form: InputForm
) -> tuple[ImageSet, ImageSet | None]:
    """Return crops to calibrate on, and crops of other photographs, a quarter of the folder, to judge by."""
    photos, crops, seed = _calibration_sample(options, recipe, None, form)
    held = photos.sample(len(photos) // 4, seed + 1) if len(photos) >= 4 else None
    kept = None if held is None else photos.apart_from(held)
    if held is None or kept is None or len(crops) < _FEWEST:
        return crops, None
    return crops_of(kept, len(crops), smallest, seed), crops_of(held, min(SELECTION, len(crops)), smallest, seed)


def _about_crops(
    recipe: CalibrationRecipe, images: ImageSet, selection: ImageSet | None, *, of_imagenet: bool
) -> list[str]:
    """Return sentences that say which crops calibrated and judged a model, and what shipped photographs are worth."""
    sentences = [f"calibrated on {len(images)} random crops of {len(set(images.files))} photographs"]
    if selection is not None:
        sentences[0] += f", judged on {len(selection)} crops of {len(set(selection.files))} other photographs"
    if recipe.folder == shipped_folder() / PHOTOS:
        worth = PHOTOS_ON_IMAGENET if of_imagenet else PHOTOS_ELSEWHERE
        sentences.append(f"{worth}; calibrate on images like those in use: --calibration FOLDER")
    return sentences


def _calibration_sample(
    options: ExportOptions, recipe: CalibrationRecipe, labels: Labels | None, form: InputForm
) -> tuple[ImageSet, ImageSet, int]:
    """Return all images of the folder, the sample (or the crops) to calibrate on, and the seed that drew it."""
    asked, everything = options.precision, _open_calibration(recipe.folder, form, labels, options.network.class_order)
    usual = min(DEFAULT_SAMPLES, len(everything)) if recipe.samples is None else recipe.samples
    wanted = usual if asked.samples is None else asked.samples
    seed = recipe.seed if asked.seed is None else asked.seed
    if recipe.smallest_crop is not None and not everything.is_table:
        return everything, crops_of(everything, wanted, recipe.smallest_crop, seed), seed
    return everything, everything.sample(wanted, seed), seed


def _open_calibration(folder: Path, form: InputForm, labels: Labels | None, class_order: str | None) -> ImageSet:
    """Open the folder or table, with the classes of its images if it has them: rungs can be judged by top-1 then."""
    if labels is not None:
        try:
            if has_labels(folder):
                return open_samples(folder, form, labels=labels, require_labels=True, class_order=class_order)
        except UsageError:
            pass  # its subfolders are not classes; calibration needs none
    return open_samples(folder, form)


def _labels(options: ExportOptions, output: ModelOutput, sample: Labels | None, notes: list[str]) -> Labels | None:
    file, evaluation, classes = options.network.labels, options.proof.evaluation, output.classes
    is_classifier = output.task == "classification"
    if options.network.class_order is not None and (evaluation is None or not is_classifier):
        raise UsageError(
            "--class-order orders the class folders of --eval, and no classes are evaluated",
            hint="add --eval FOLDER with one subfolder a class, or leave --class-order out",
            code="class-order",
        )
    if classes is None:
        return None
    if file is not None:
        labels = load_labels(file)
    elif sample is not None:
        return sample
    elif not is_classifier:
        return None
    elif classes == 1000:  # only a file of weights could mean other classes: then --labels says so
        return imagenet_labels()
    elif evaluation is not None:
        inferred, said = infer_labels(evaluation, classes, options.network.class_order)
        notes += said
        if inferred is None:
            return None
        labels = inferred
    else:
        return None
    if len(labels) != classes:
        raise UsageError(
            f"the network has {classes} classes, but {file or evaluation} names {len(labels)}",
            hint="--labels FILE with one class name a line, in the order of the outputs",
            code="labels-count",
        )
    return labels
