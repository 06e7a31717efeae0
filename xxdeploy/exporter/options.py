"""What is asked, and the inputs that it names: opened and checked before any work is done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from xxdeploy.datasets import (
    ImageSet,
    Labels,
    Recipe,
    has_labels,
    imagenet_labels,
    labels_from_folders,
    load_labels,
    open_images,
    overlap,
    recipe_from,
)
from xxdeploy.datasets.preprocess_file import load_scaling
from xxdeploy.engine.options import EngineOptions
from xxdeploy.errors import UsageError
from xxdeploy.exporter.budgets import NO_LIMITS, Limits
from xxdeploy.models.catalog import BuildOptions, ModelSpec
from xxdeploy.models.options import check_options, image_size, output_classes
from xxdeploy.models.samples import sample_for, sample_options
from xxdeploy.runtime.bundle.manifest import TASKS
from xxdeploy.runtime.image.preprocess import CUSTOM, MODES, Preprocess
from xxdeploy.verify import check_max_drop, check_min_agreement

DEFAULT_SAMPLES = 300
SELECTION = 256
"""Images that the ladder judges its rungs by, at most."""
_FEWEST = 16
"""Fewer than this say nothing about a rung: then the calibration images themselves have to do."""
DEFAULT_METHOD = "percentile-99.99"
"""Chosen on training images that were not calibrated on: MobileNetV2 gains 1.6 points of agreement over min-max,
MobileNet nothing."""
CPUS = ("vnni", "avx2", "arm")
_PRECISIONS = ("fp32", "fp16", "int8")
_DEFAULT_OPTIONS = BuildOptions()


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to export and how. Nothing is read yet.

    ``precision`` is fp32, fp16 or int8; ``weights`` imagenet, sample, none or a file; ``calibration`` a folder or a
    recipe; ``samples`` how many of its images (None: the recipe's number, else at most 300) and ``seed`` which (None:
    the recipe's); ``method`` the calibrator; ``evaluation`` a labeled folder; ``max_drop`` the largest allowed loss of
    top-1 in points; ``min_agreement`` the smallest share of images, in percent, that keep Keras' class; ``recipe`` a
    quantization recipe to pin (a file, or the name of one that ships; ``auto`` climbs from the first rung); ``ranges``
    a file of ranges that stand for those of calibration, whose images then judge and correct only; ``cpu`` the one kind
    of processor to export for (None: all); ``engine`` the TensorRT engine that the bundle is for and carries, in the
    plan's precision (None: a bundle for processors); ``keep_fp32`` to carry the FP32 model beside INT8, last in
    preference; ``limits`` what the bundle may cost; ``ort_format`` for model files in ONNX Runtime's own format;
    ``top_k`` how many of its best classes the model itself gives (None: all, with their probabilities);
    ``preprocess`` tf, caffe, torch or none (None: the network's own); ``resize`` squash or crop. Four are for a model
    file: ``output_layer`` whose result is wanted, ``task`` classification or features (None: what its last layers are),
    ``custom_objects`` (``module:name``) that it is made of, ``unsafe_lambda`` to run the code in it. ``pictures`` lets
    the report show some of the images that the bundle was made with.
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
    min_agreement: float | None = None
    recipe: str | None = None
    ranges: Path | None = None
    cpu: str | None = None
    labels: Path | None = None
    preprocess: str | None = None
    output_layer: str | None = None
    task: str | None = None
    custom_objects: tuple[str, ...] = ()
    unsafe_lambda: bool = False
    resize: str | None = None
    force: bool = False
    pictures: bool = True
    engine: EngineOptions | None = None
    keep_fp32: bool = False
    limits: Limits = NO_LIMITS
    ort_format: bool = False
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.task not in (None, *TASKS):
            raise UsageError(f"there is no task {self.task!r}", hint=f"--task {'|'.join(TASKS)}", code="unknown-task")
        if self.precision not in _PRECISIONS:
            raise UsageError(
                f"there is no precision {self.precision!r}", hint=" or ".join(_PRECISIONS), code="unknown-precision"
            )
        if self.cpu is not None and self.cpu not in CPUS:
            raise UsageError(
                f"there is no kind of processor {self.cpu!r}", hint=f"--cpu {'|'.join(CPUS)}", code="unknown-cpu"
            )
        about_int8 = (self.cpu, self.recipe, self.ranges, self.keep_fp32)
        if self.precision != "int8" and about_int8 != (None, None, None, False):
            raise UsageError(
                "--cpu, --recipe, --ranges and --keep-fp32 are about INT8, and nothing is quantized",
                hint="add --int8, or leave them out",
                code="int8-only",
            )
        if self.precision == "fp32" and self.min_agreement is not None:
            raise UsageError(
                "--min-agreement is about INT8 and FP16, and nothing is rounded",
                hint="add --int8 or --fp16, or leave it out",
                code="int8-only",
            )
        if self.ranges is not None and self.method is not None:
            raise UsageError(
                f"--method {self.method} chooses ranges, and --ranges {self.ranges} gives them",
                hint="leave one of them out",
                code="ranges-given",
            )
        about_processors = {
            f"--cpu {self.cpu}": self.cpu is not None,
            "--ort-format": self.ort_format,
            "--top-k": self.top_k is not None,
        }
        for option, given in about_processors.items():
            if given and self.engine is not None:
                raise UsageError(
                    f"{option} is about processors, and --target {self.engine.target} about a GPU",
                    hint="leave one of them out, or export twice for both",
                    code="cpu-and-target",
                )
        if self.max_drop is not None:
            check_max_drop(self.max_drop)
        if self.min_agreement is not None:
            check_min_agreement(self.min_agreement)

    @property
    def target(self) -> str:
        """Return what the bundle is for: ``cpu``, ``tensorrt`` or ``tensorrt-rtx``."""
        return "cpu" if self.engine is None else self.engine.target


@dataclass(frozen=True, slots=True)
class Inputs:
    """A plan whose names were followed: everything that can be wrong with them has been looked at.

    ``selection`` are images that the ladder judges its rungs by; ``method`` is the calibrator that was asked for. The
    three sets of images are disjoint.
    """

    options: BuildOptions
    preprocess: Preprocess
    classes: int | None
    labels: Labels | None
    calibration: ImageSet | None
    selection: ImageSet | None
    method: str | None
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
    if (plan.output_layer, plan.task, plan.custom_objects, plan.unsafe_lambda) != (None, None, (), False):
        raise UsageError(
            "--output-layer, --task, --custom-objects and --unsafe-lambda are about a model file",
            hint=f"save keras.applications.{spec.title}, or your own model, as a .keras file, and export that",
            code="model-file-only",
        )
    size = image_size(spec, options)
    recipe = _recipe(plan, calibration)
    mode = plan.preprocess or spec.preprocess
    if mode not in MODES:
        scaling = load_scaling(Path(mode), spec.channels)
        preprocess = Preprocess(size, size, spec.channels, CUSTOM, resize_of(plan, recipe), scaling)
    else:
        preprocess = Preprocess(size, size, spec.channels, mode, resize_of(plan, recipe))
    labels = Labels(sample.labels) if sample else None
    gathered = replace(plan, calibration=calibration, evaluation=evaluation)
    return gather(gathered, preprocess, output_classes(spec, options), options, notes, recipe=recipe, labels=labels)


def resize_of(plan: ExportPlan, recipe: Recipe | None = None) -> str:
    """Return how pictures are brought to size: as asked, as the calibration recipe says, or squashed."""
    return plan.resize or (recipe.resize if recipe else None) or "squash"


def gather(
    plan: ExportPlan,
    preprocess: Preprocess,
    classes: int | None,
    options: BuildOptions,
    notes: list[str],
    *,
    recipe: Recipe | None = None,
    labels: Labels | None = None,
) -> Inputs:
    """Open the images and labels that ``plan`` names, for a model whose input and classes are known.

    ``labels`` are the classes' names where the weights bring them. Errors as :func:`follow`.
    """
    calibration, evaluation = plan.calibration, plan.evaluation
    recipe = recipe or _recipe(plan, calibration)
    labels = _labels(plan, classes, labels, evaluation)
    _check_evaluation(plan, classes)
    check_top_k(plan.top_k, classes)

    labeled = open_images(evaluation, labels=labels, require_labels=True) if evaluation and classes else None
    images = selection = None
    if plan.precision == "int8":
        if recipe is None:
            raise UsageError(
                "INT8 needs calibration images, and none are given",
                hint="--calibration FOLDER with a few hundred images of the kind that it will see (no labels needed)",
                code="calibration-missing",
            )
        images, selection = _calibration_sets(plan, recipe, labels)
        if selection is None:
            notes.append(
                f"{len(images)} calibration images are too few to hold any back: rungs are judged on them, too"
            )
    elif recipe is not None:
        images = _calibration_sample(plan, recipe, None)[1]
    for used in (images, selection):
        if labeled is not None and used is not None:
            _refuse_overlap(used, labeled)
    method = plan.method or (recipe.method if recipe else None)
    return Inputs(options, preprocess, classes, labels, images, selection, method, labeled, tuple(notes))


def _recipe(plan: ExportPlan, calibration: Path | None) -> Recipe | None:
    return None if plan.precision == "fp32" or calibration is None else recipe_from(calibration)


def _calibration_sets(plan: ExportPlan, recipe: Recipe, labels: Labels | None) -> tuple[ImageSet, ImageSet | None]:
    """Return the images to calibrate on, and others of the same folder to judge by."""
    every, images, seed = _calibration_sample(plan, recipe, labels)
    rest = every.apart_from(images)
    if rest is not None and len(rest) >= max(_FEWEST, min(SELECTION, len(images) // 4)):
        return images, rest.sample(min(SELECTION, len(rest)), seed)
    # The folder has not enough besides: a quarter of the sample is held back.
    held = images.sample(max(1, len(images) // 4), seed + 1)
    kept = images.apart_from(held)
    return (kept, held) if kept is not None and len(held) >= _FEWEST else (images, None)


def _calibration_sample(plan: ExportPlan, recipe: Recipe, labels: Labels | None) -> tuple[ImageSet, ImageSet, int]:
    """Return all images of the folder, those that are asked for, and the seed that drew them."""
    every = _open_calibration(recipe.folder, labels)
    wanted = plan.samples if plan.samples is not None else recipe.samples
    if wanted is None:
        wanted = min(DEFAULT_SAMPLES, len(every))
    seed = recipe.seed if plan.seed is None else plan.seed
    return every, every.sample(wanted, seed), seed


def _open_calibration(folder: Path, labels: Labels | None) -> ImageSet:
    """Open the folder with its classes where it has them: rungs can be judged by top-1 then."""
    if labels is not None and has_labels(folder):
        try:
            return open_images(folder, labels=labels, require_labels=True)
        except UsageError:
            pass  # subfolders of another kind; calibration needs no classes
    return open_images(folder)


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


def check_top_k(count: int | None, classes: int | None) -> None:
    """Raise ``UsageError`` ``top-k-invalid`` unless the best ``count`` of ``classes`` (None: features) can be taken."""
    if count is None:
        return
    if classes is None:
        raise UsageError("features have no best class", hint="leave --top-k out, or --no-top", code="top-k-invalid")
    if not 1 <= count <= classes:
        raise UsageError(
            f"--top-k must be 1 to {classes}, the number of classes, not {count}",
            hint="5 is usual",
            code="top-k-invalid",
        )


def _check_evaluation(plan: ExportPlan, classes: int | None) -> None:
    if classes is None and (plan.evaluation, plan.max_drop, plan.min_agreement) != (None, None, None):
        raise UsageError(
            "features have no classes to evaluate, and to promise anything about",
            hint="leave --eval, --max-drop and --min-agreement out, or --no-top",
            code="features-evaluation",
        )
    if plan.precision == "fp16" and plan.min_agreement is not None and plan.evaluation is None:
        raise UsageError(
            "--min-agreement cannot be checked without images",
            hint="add --eval FOLDER, one subfolder a class",
            code="min-agreement-without-eval",
        )
    if plan.max_drop is not None and plan.evaluation is None and plan.weights != "sample":
        raise UsageError(
            "--max-drop cannot be checked without labeled images",
            hint="add --eval FOLDER, one subfolder a class; or promise --min-agreement 98, which needs no labels",
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
