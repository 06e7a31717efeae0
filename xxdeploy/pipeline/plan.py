"""What is asked, and the inputs that it names: opened and checked before any work is done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.datasets import (
    ImageSet,
    Labels,
    imagenet_labels,
    labels_from_folders,
    load_labels,
    open_images,
    overlap,
    recipe_from,
)
from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import BuildOptions, ModelSpec
from xxdeploy.models.options import check_options, image_size, output_classes
from xxdeploy.models.samples import sample_for, sample_options
from xxdeploy.runtime.preprocess import Preprocess

DEFAULT_SAMPLES = 300
DEFAULT_METHOD = "percentile-99.99"
"""Chosen on training images that were not calibrated on: MobileNetV2 gains 1.6 points of agreement over min-max,
MobileNet nothing."""
_PRECISIONS = ("fp32", "int8")
_DEFAULT_OPTIONS = BuildOptions()


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to export and how. Nothing is read yet.

    ``precision`` is fp32 or int8; ``weights`` imagenet, sample, none or a file; ``calibration`` a folder or a recipe;
    ``samples`` how many of its images (None: the recipe's number, else at most 300) and ``seed`` which (None: the
    recipe's); ``method`` the calibrator; ``evaluation`` a labelled folder; ``max_drop`` the largest allowed loss of
    top-1 in points; ``preprocess`` tf, caffe, torch or none (None: the network's own); ``resize`` squash or crop.
    """

    precision: str = "fp32"
    weights: str = "imagenet"
    options: BuildOptions = _DEFAULT_OPTIONS
    calibration: Path | None = None
    samples: int | None = None
    seed: int | None = None
    method: str | None = None
    evaluation: Path | None = None
    max_drop: float | None = None
    labels: Path | None = None
    preprocess: str | None = None
    resize: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.precision not in _PRECISIONS:
            raise UsageError(
                f"there is no precision {self.precision!r}", hint=" or ".join(_PRECISIONS), code="unknown-precision"
            )


@dataclass(frozen=True, slots=True)
class Inputs:
    """A plan whose names were followed: everything that can be wrong with them has been looked at."""

    options: BuildOptions
    preprocess: Preprocess
    classes: int | None
    labels: Labels | None
    calibration: ImageSet | None
    method: str
    evaluation: ImageSet | None
    notes: tuple[str, ...]

    @property
    def task(self) -> str:
        """Return ``classification``, or ``features`` for a network without its classifier."""
        return "features" if self.classes is None else "classification"

    def data_digest(self, images: ImageSet) -> str:
        """SHA-256 over the images and how they are preprocessed: what a calibration result depends on."""
        how = json.dumps(self.preprocess.to_json(), sort_keys=True)
        return hashlib.sha256(f"{images.digest}\n{how}".encode()).hexdigest()


def follow(spec: ModelSpec, plan: ExportPlan) -> Inputs:
    """Open what ``plan`` names.

    Raises
    ------
    UsageError
        Those of the options, datasets, labels and recipes; ``calibration-missing``, ``overlap``,
        ``features-evaluation``, ``labels-count``, ``max-drop-without-eval``.
    """
    options, notes = plan.options, []
    calibration, evaluation = plan.calibration, plan.evaluation
    sample = None
    if plan.weights == "sample":
        options, sample = sample_options(spec, options), sample_for(spec)
        notes.append(sample.statement)
        evaluation = evaluation or sample.evaluation
        calibration = calibration or sample.calibration
    check_options(spec, options, weights=plan.weights)
    classes, size = output_classes(spec, options), image_size(spec, options)
    recipe = None if plan.precision == "fp32" or calibration is None else recipe_from(calibration)
    resize = plan.resize or (recipe.resize if recipe else None) or "squash"
    preprocess = Preprocess(size, size, spec.channels, plan.preprocess or spec.preprocess, resize)
    labels = _labels(plan, classes, Labels(sample.labels) if sample else None, evaluation)
    _check_evaluation(plan, classes)

    labelled = open_images(evaluation, labels=labels, require_labels=True) if evaluation and classes else None
    images = None
    if plan.precision == "int8":
        if recipe is None:
            raise UsageError(
                "INT8 needs calibration images, and none are given",
                hint="--calibration FOLDER with a few hundred images of the kind that it will see (no labels needed)",
                code="calibration-missing",
            )
        images = _calibration_set(plan, recipe.folder, recipe.samples, recipe.seed)
        if labelled is not None:
            _refuse_overlap(images, labelled)
    method = plan.method or (recipe.method if recipe else None) or DEFAULT_METHOD
    return Inputs(options, preprocess, classes, labels, images, method, labelled, tuple(notes))


def _calibration_set(plan: ExportPlan, folder: Path, samples: int | None, seed: int) -> ImageSet:
    images = open_images(folder)
    wanted = plan.samples if plan.samples is not None else samples
    if wanted is None:
        wanted = min(DEFAULT_SAMPLES, len(images))
    return images.sample(wanted, seed if plan.seed is None else plan.seed)


def _labels(plan: ExportPlan, classes: int | None, sample: Labels | None, evaluation: Path | None) -> Labels | None:
    if classes is None:
        return None
    if plan.labels is not None:
        labels = load_labels(plan.labels)
    elif sample is not None:
        return sample
    elif classes == 1000:  # only a file of weights could mean other classes: then --labels says so
        return imagenet_labels()
    elif evaluation is not None and not (evaluation / "labels.csv").is_file():
        labels = labels_from_folders(evaluation)
    else:
        return None
    if len(labels) != classes:
        raise UsageError(
            f"the network has {classes} classes, but {plan.labels or evaluation} names {len(labels)}",
            hint="--labels FILE with one class name a line, in the order of the outputs",
            code="labels-count",
        )
    return labels


def _check_evaluation(plan: ExportPlan, classes: int | None) -> None:
    if plan.evaluation is not None and classes is None:
        raise UsageError(
            "features have no classes to evaluate", hint="leave --eval or --no-top out", code="features-evaluation"
        )
    if plan.max_drop is not None and plan.evaluation is None and plan.weights != "sample":
        raise UsageError(
            "--max-drop cannot be checked without labelled images",
            hint="add --eval FOLDER, one subfolder a class",
            code="max-drop-without-eval",
        )


def _refuse_overlap(calibration: ImageSet, evaluation: ImageSet) -> None:
    """Accuracy on images that the ranges were fitted to would be flattered."""
    shared = overlap(calibration, evaluation)
    if shared:
        raise UsageError(
            f"{len(shared)} images are in both the calibration and the evaluation set, such as {shared[0][0]}",
            hint="calibrate on other images than those it is judged on",
            code="overlap",
        )
