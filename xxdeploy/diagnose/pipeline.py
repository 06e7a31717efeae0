"""``diagnose``: which pipeline (scaling, channels, resizing, order of classes) the labeled pictures support."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.datasets import Labels, infer_labels
from xxdeploy.diagnose.verify_bundle import labels_of
from xxdeploy.errors import UsageError
from xxdeploy.exporter.find_pipeline import ClassOrders, class_orders, start_for
from xxdeploy.exporter.inputs import AUTO, labels_for, sizing_of
from xxdeploy.exporter.option_groups import NetworkOptions
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.source import Timed, is_model_file, load_user_model, open_source
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.optional import extra
from xxdeploy.results import OnProgress, Progress, Runner
from xxdeploy.runtime import load
from xxdeploy.runtime.image.picture import DROP
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import one_picture
from xxdeploy.verify.pipeline_search import Search
from xxdeploy.verify.pipelines import Diagnosis, pipeline_of


def diagnose(
    source: ModelSpec | Path, options: ExportOptions, *, on_progress: OnProgress | None = None
) -> tuple[Diagnosis, ClassOrders]:
    """Run the float model on at most 300 labeled pictures under the plausible pipelines.

    ``source`` is a network of the catalog, a model file, or the folder of a bundle, which has a pipeline of its own.
    The pictures are those of ``options.proof.evaluation``.

    ``UsageError``: those of the options, the labels and the pictures; ``diagnose-eval``: no pictures are given;
    ``diagnose-options``: options for a bundle; ``features-evaluation``: the model has no classes.
    """
    report = on_progress or (lambda _: None)
    evaluation = options.proof.evaluation
    if evaluation is None:
        raise UsageError(
            "labeled pictures tell one pipeline from another, and none are given",
            hint="add --eval FOLDER with one subfolder a class",
            code="diagnose-eval",
        )
    if isinstance(source, Path) and source.is_dir() and not is_model_file(str(source)):
        return _bundle(source, evaluation, options, report)
    if isinstance(source, ModelSpec):
        return _catalog(source, options, report)
    return _file(source, evaluation, options, report)


def _bundle(
    folder: Path, evaluation: Path, options: ExportOptions, report: OnProgress
) -> tuple[Diagnosis, ClassOrders]:
    if options.network != NetworkOptions():
        raise UsageError(
            f"{folder} is a bundle, which has its own network, preprocessing and labels",
            hint="leave the options but --eval out, or diagnose the model file that the bundle was made from",
            code="diagnose-options",
        )
    manifest = check_bundle(folder)
    if manifest.task != "classification":
        raise _no_classes(manifest.name)
    floats = [variant.name for variant in manifest.variants if variant.precision == "fp32"]
    runtime = load(folder, variant=floats[0] if floats else None)
    labels = labels_of(runtime)
    if labels is None:
        labels = infer_labels(evaluation, manifest.classes)[0] or Labels(runtime.labels)
    orders = class_orders(evaluation, manifest.classes, labels, options.network, None)
    return _found(runtime.session, orders, manifest.picture, report)


def _catalog(spec: ModelSpec, options: ExportOptions, report: OnProgress) -> tuple[Diagnosis, ClassOrders]:
    origin = open_source(spec, options, _timer(report))
    inputs, evaluation = origin.inputs, options.proof.evaluation
    if inputs.classes is None or inputs.labels is None or evaluation is None:
        raise _no_classes(spec.name)
    with extra("export"):
        from xxdeploy.convert.runner import KerasRunner
    orders = class_orders(evaluation, inputs.classes, inputs.labels, options.network, None)
    runner = KerasRunner(origin.model, outputs=origin.output_names)
    return _found(runner, orders, inputs.picture, report)


def _file(path: Path, evaluation: Path, options: ExportOptions, report: OnProgress) -> tuple[Diagnosis, ClassOrders]:
    sizing, asked = sizing_of(options), options.network.preprocess
    prepared, _ = load_user_model(path, options, _timer(report))
    with extra("export"):
        from xxdeploy.convert.runner import KerasRunner
        from xxdeploy.convert.user_model.preprocessing import choose_preprocess
    if prepared.classes is None:
        raise _no_classes(path.name)
    labels, described = labels_for(options, prepared.classes), prepared.described
    orders = class_orders(evaluation, prepared.classes, labels, options.network, path)
    runner = KerasRunner(prepared.model, outputs=[output.name for output in prepared.outputs])
    if asked == AUTO or (asked is None and not described.scaling):
        size = described.height, described.width, described.channels
        color = options.network.background or DROP
        search = Search(runner, orders.images, orders.truths, size, report, background=color)
        return search.find(None, start_for(described, options, orders.given)), orders
    form = choose_preprocess(described, asked, sizing=sizing, twice=True)[0]  # it is measured
    given = one_picture(form, path.name)
    return _found(runner, orders, replace(given, background=options.network.background or DROP), report)


def _found(
    runner: Runner, orders: ClassOrders, preprocess: Preprocess, report: OnProgress
) -> tuple[Diagnosis, ClassOrders]:
    size, given = (preprocess.height, preprocess.width, preprocess.channels), pipeline_of(preprocess, orders.given)
    search = Search(runner, orders.images, orders.truths, size, report, background=preprocess.background)
    return search.find(given, given), orders


@contextmanager
def _step(report: OnProgress, name: str) -> Iterator[None]:
    report(Progress(name, 0, 1))
    yield
    report(Progress(name, 1, 1))


def _timer(report: OnProgress) -> Timed:
    return lambda name: _step(report, name)


def _no_classes(name: str) -> UsageError:
    return UsageError(
        f"{name} returns features, and only classes can be right or wrong",
        hint="diagnose the whole model, with its classifier",
        code="features-evaluation",
    )
