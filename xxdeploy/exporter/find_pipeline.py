"""Which pipeline the labeled pictures of ``--eval`` support: the doubt of an export, and ``--preprocess auto``."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xxdeploy.datasets import ImageSet, Labels, infer_labels, load_labels, open_images
from xxdeploy.datasets.class_order import ORDERS
from xxdeploy.datasets.table import is_table
from xxdeploy.errors import UsageError
from xxdeploy.exporter.inputs import AUTO, Inputs, labels_for, sizing_of
from xxdeploy.exporter.option_groups import NetworkOptions
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.results import OnProgress, Progress, Runner
from xxdeploy.runtime.image.picture import DROP
from xxdeploy.verify.pipeline_search import FEW, MANY, Search
from xxdeploy.verify.pipelines import Aspect, Diagnosis, Pipeline, options_of, pipeline_of

if TYPE_CHECKING:
    from xxdeploy.convert.user_model.describe import UserModel
    from xxdeploy.convert.user_model.prepare import PreparedModel

GOOD_ENOUGH = 0.95
"""A float model with this top-1 is not doubted."""
_FAR = 0.03
"""The gain of top-1 from which an export speaks of another pipeline."""
_SECONDS, _PASSES, _FEWEST = 20, 20, 32
"""About the longest time of a doubt, the passes over the pictures that it takes, and the fewest pictures."""
_FILES = ("labels.txt", "labels.json", "class_indices.json", "class_names.json", "classes.txt")
_TITLES = {
    "scaling": "the scaling",
    "channels": "the order of channels",
    "resample": "the resampling",
    "resize": "the geometry",
    "classes": "the order of classes",
}


def _silent(_: Progress) -> None:
    """Report nothing."""


class ClassOrders:
    """The plausible orders of a network's classes, and the class of each picture under each.

    ``truths`` has the class index of each of ``images`` by the name of the order; ``given`` is the name of the one that
    the options, the bundle or the folders give; ``options`` has the options of ``xxdeploy export`` that choose each.
    """

    def __init__(self, name: str, images: ImageSet) -> None:
        few = images.sample(min(FEW, len(images))).files
        more = sorted(set(images.sample(min(MANY, len(images))).files) - set(few))
        mixed = random.Random(0)  # so that any part of the pictures has all classes
        self.images = ImageSet(images.root, (*mixed.sample(few, len(few)), *mixed.sample(more, len(more))))
        self.truths: dict[str, tuple[int, ...]] = {}
        self.options: dict[str, tuple[str, ...]] = {}
        self.given = name
        self.add(name, images, ())

    def first(self, count: int) -> ImageSet:
        """Return at most ``count`` of the pictures."""
        return ImageSet(self.images.root, self.images.files[:count])

    def add(self, name: str, images: ImageSet, options: tuple[str, ...]) -> None:
        """Add an order, unless the pictures have the same classes in another one."""
        assert images.labels is not None
        by_file = dict(zip(images.files, images.labels, strict=True))
        if not by_file.keys() >= set(self.images.files):
            return
        truth = tuple(by_file[file] for file in self.images.files)
        if truth not in self.truths.values():
            self.truths[name], self.options[name] = truth, options


def class_orders(
    evaluation: Path, classes: int, labels: Labels, network: NetworkOptions, near: Path | None
) -> ClassOrders:
    """Return the orders of ``classes`` to try: as given, by the folders of ``evaluation``, and by files of labels.

    ``labels`` are as given, by ``network`` or else; files are looked for beside ``near``, the model, and in
    ``evaluation`` and the folder around it. ``UsageError``: those of ``open_images``.
    """
    order = network.class_order
    inferred = network.labels is None and labels == infer_labels(evaluation, classes, order)[0]
    name = order or (network.labels.name if network.labels else "text" if inferred else "labels")
    found = ClassOrders(name, open_images(evaluation, labels=labels, require_labels=True, class_order=order))
    for name in ORDERS:
        try:
            folders, _ = infer_labels(evaluation, classes, name)
            if folders is not None and len(folders) == classes:
                images = open_images(evaluation, labels=folders, require_labels=True, class_order=name)
                found.add(name, images, ("--class-order", name))
        except UsageError:
            continue  # the folders have no such order
    for file in _label_files(evaluation, near):
        try:
            listed = load_labels(file)
            if len(listed) == classes:
                images = open_images(evaluation, labels=listed, require_labels=True, class_order=order)
                found.add(file.name, images, ("--labels", str(file)))
        except UsageError:
            continue  # a file of that name that is about something else
    return found


def _label_files(evaluation: Path, near: Path | None) -> Iterator[Path]:
    folders = [evaluation, evaluation.absolute().parent, *([near.absolute().parent] if near else [])]
    return (folder / name for folder in dict.fromkeys(folders) for name in _FILES if (folder / name).is_file())


def doubt(
    runner: Runner, inputs: Inputs, options: ExportOptions, near: Path | None, report: OnProgress = _silent
) -> tuple[str, ...]:
    """Return a warning if another pipeline than the one as given is far better on ``--eval``, with its options.

    At most 100 pictures are used, fewer for a slow network, and few pipelines. A network that is right on 95 % of them
    is not doubted.
    """
    images, evaluation = inputs.evaluation, options.proof.evaluation
    if images is None or evaluation is None or inputs.labels is None or inputs.classes is None:
        return ()
    orders = class_orders(evaluation, inputs.classes, inputs.labels, options.network, near)
    preprocess = inputs.picture
    size = preprocess.height, preprocess.width, preprocess.channels
    given = pipeline_of(preprocess, orders.given)
    start = time.perf_counter()
    color = preprocess.background
    first = Search(runner, orders.first(FEW), orders.truths, size, report, background=color)
    if first.measure(given) >= GOOD_ENOUGH:
        return ()
    seconds = (time.perf_counter() - start) / len(first.images)
    count = max(_FEWEST, min(FEW, int(_SECONDS / (_PASSES * seconds))))
    short = Search(runner, orders.first(count), orders.truths, size, report, is_short=True, background=color)
    diagnosis = short.find(given, given)
    if not diagnosis.mends or diagnosis.top1 - (diagnosis.given_top1 or 0) < _FAR:
        return ()
    return (
        f"WARNING: the pictures support another pipeline than the one as given: {sentence(diagnosis, orders)}; "
        "`xxdeploy diagnose` measures more",
    )


def auto_pipeline(
    runner: Callable[[], Runner],
    prepared: PreparedModel,
    options: ExportOptions,
    near: Path | None,
    report: OnProgress = _silent,
) -> tuple[Diagnosis, ClassOrders]:
    """Return the pipeline that the pictures of ``--eval`` support.

    ``UsageError``: ``auto-preprocess``: there are no labeled pictures, or they leave the scaling or the order of the
    classes open.
    """
    evaluation, network, classes = _labeled(options), options.network, prepared.classes
    if classes is None:
        raise UsageError(
            "--preprocess auto asks labeled pictures, and this model returns features, not classes",
            hint="say how pixels are scaled, as in training: --preprocess tf",
            code="auto-preprocess",
        )
    labels = labels_for(options, classes)
    orders = class_orders(evaluation, classes, labels, network, near)
    if network.labels is not None or network.class_order is not None:
        orders.truths = {orders.given: orders.truths[orders.given]}
    described = prepared.described
    size = described.height, described.width, described.channels
    keeps_size = network.resize is not None or network.resample is not None
    color = network.background or DROP
    search = Search(runner(), orders.images, orders.truths, size, report, keeps_size=keeps_size, background=color)
    start = start_for(described, options, orders.given)
    diagnosis = search.find(None, start)
    scaling, order = diagnosis.unclear("scaling"), diagnosis.unclear("classes")
    inside = described.scaling and diagnosis.chosen.scaling == "none"
    if not diagnosis.supported or (scaling is not None and not inside) or order is not None:
        raise UsageError(
            f"the pictures of {evaluation} do not say how they were prepared: {_why(diagnosis)}",
            hint="say how pixels are scaled, as in training (--preprocess tf); `xxdeploy diagnose` shows all values",
            code="auto-preprocess",
        )
    return diagnosis, orders


def check_auto(options: ExportOptions) -> None:
    """Raise ``UsageError`` ``auto-preprocess`` if ``--preprocess auto`` has no pictures to ask."""
    if options.network.preprocess == AUTO:
        _labeled(options)


def _labeled(options: ExportOptions) -> Path:
    if options.proof.evaluation is None:
        raise UsageError(
            "--preprocess auto asks labeled pictures, and none are given",
            hint="add --eval FOLDER with one subfolder a class, or say how pixels are scaled: --preprocess tf",
            code="auto-preprocess",
        )
    if is_table(options.proof.evaluation):
        raise UsageError(
            f"--preprocess auto asks a folder of labeled pictures, and {options.proof.evaluation} is a table",
            hint="say how pixels are scaled: --preprocess tf, or --preprocess left=tf,right=none for several inputs",
            code="auto-preprocess",
        )
    return options.proof.evaluation


def start_for(described: UserModel, options: ExportOptions, classes: str) -> Pipeline:
    """Return where a search begins for a model whose scaling is unknown."""
    scaling = "none" if described.scaling else described.likely or "tf"
    channels = "gray" if described.channels == 1 else "bgr" if scaling == "caffe" else "rgb"
    return Pipeline(scaling, channels, sizing_of(options), classes)


def with_pipeline(options: ExportOptions, diagnosis: Diagnosis, orders: ClassOrders) -> ExportOptions:
    """Return the options with the order of the classes that the pictures support."""
    words = orders.options[diagnosis.chosen.classes]
    if not words:
        return options
    if words[0] == "--labels":
        return options.changed(labels=Path(words[1]), class_order=None)
    return options.changed(class_order=words[1], labels=None)


def sentence(diagnosis: Diagnosis, orders: ClassOrders) -> str:
    """Return the pipeline to use and its top-1, with the options of ``xxdeploy export`` for it."""
    words = " ".join(options_of(diagnosis.chosen, diagnosis.given, orders.options))
    best = f"{100 * diagnosis.top1:.1f} % top-1"
    if diagnosis.given_top1 is None:
        return f"{diagnosis.images} pictures of the evaluation support {words or 'the defaults'}: {best}"
    if not diagnosis.mends:
        given = f"{100 * diagnosis.given_top1:.1f} % top-1 as given"
        return f"{diagnosis.images} pictures of the evaluation: {given}; no other pipeline is clearly better"
    given = f"{100 * diagnosis.given_top1:.1f} % as given"
    return f"{diagnosis.images} pictures of the evaluation: {best} with {words}, and {given}"


def sentences(diagnosis: Diagnosis, orders: ClassOrders) -> tuple[str, ...]:
    """Return the whole result for people: the pipeline, its statistics, and what the pictures leave open."""
    if not diagnosis.supported:
        return (f"cannot tell: {_unsupported(diagnosis)}",)
    interval, change, said = diagnosis.interval, diagnosis.change, [sentence(diagnosis, orders)]
    said.append(f"95 % interval of its top-1: {100 * interval.low:.1f} to {100 * interval.high:.1f} %")
    if diagnosis.mends and change is not None:
        said[-1] += f"; {change.gained} pictures gained, {change.lost} lost, p = {change.p_value:.2g} (McNemar)"
    said += [f"cannot tell {_open(aspect)}" for aspect in diagnosis.aspects if aspect.ties]
    return tuple(said)


def _open(aspect: Aspect) -> str:
    if len(aspect.ties) == len(aspect.rivals):
        return f"{_TITLES[aspect.name]}: no value is clearly worse than {aspect.chosen}"
    values = (aspect.best, *aspect.ties)
    return f"{_TITLES[aspect.name]}: it may be {', '.join(values[:-1])} or {values[-1]}"


def _unsupported(diagnosis: Diagnosis) -> str:
    usual = f"naming the most frequent class always gets {100 * diagnosis.most_usual:.1f} %"
    return f"the best of {diagnosis.tried} pipelines gets {100 * diagnosis.best_top1:.1f} %, and {usual}"


def _why(diagnosis: Diagnosis) -> str:
    if not diagnosis.supported:
        return _unsupported(diagnosis)
    unclear = filter(None, map(diagnosis.unclear, ("scaling", "classes")))
    return "they leave open " + ", and ".join(map(_open, unclear))
