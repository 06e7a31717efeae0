"""``xxdeploy export``: from a name to a verified bundle."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from xxdeploy.cli.output import AsJson, milliseconds, print_json, print_line, print_rows, print_table, share
from xxdeploy.errors import UsageError

if TYPE_CHECKING:
    from xxdeploy.engine import EngineOptions
    from xxdeploy.exporter import ExportResult
    from xxdeploy.exporter.result import RungRow
    from xxdeploy.results import Parity

NAME = "export"
EXAMPLE = """Examples:

  xxdeploy export mobilenetv2 --int8 --calibration train/ --eval val/
  xxdeploy export mobilenet --int8 --calibration train/ --target tensorrt-rtx --gpu sm86,sm89
  xxdeploy export lenet --int8 --weights sample"""

_MODEL = Group("Network", sort_key=1)
_INT8 = Group("Precision", sort_key=2)
_GPU = Group("GPU", sort_key=3)
_PROOF = Group("Proof", sort_key=4)
_BUDGET = Group("Budget", sort_key=5)
_OUTPUT = Group("Output", sort_key=6)
_MATRIX = Group("Many at once", sort_key=7)


def command(
    *models: Annotated[str, Parameter(name="MODEL")],
    weights: Annotated[str, Parameter(group=_MODEL)] = "imagenet",
    alpha: Annotated[float | None, Parameter(group=_MODEL)] = None,
    input_size: Annotated[int | None, Parameter(group=_MODEL)] = None,
    classes: Annotated[int | None, Parameter(group=_MODEL)] = None,
    no_top: Annotated[bool, Parameter(name="--no-top", show_default=False, group=_MODEL)] = False,
    pooling: Annotated[Literal["avg", "max"] | None, Parameter(group=_MODEL)] = None,
    labels: Annotated[Path | None, Parameter(group=_MODEL)] = None,
    preprocess: Annotated[str | None, Parameter(group=_MODEL)] = None,
    resize: Annotated[Literal["squash", "crop"] | None, Parameter(group=_MODEL)] = None,
    output_layer: Annotated[str | None, Parameter(group=_MODEL)] = None,
    task: Annotated[Literal["classification", "features"] | None, Parameter(group=_MODEL)] = None,
    custom_objects: Annotated[tuple[str, ...], Parameter(group=_MODEL, negative=())] = (),
    unsafe_lambda: Annotated[bool, Parameter(name="--unsafe-lambda", show_default=False, group=_MODEL)] = False,
    int8: Annotated[bool, Parameter(show_default=False, group=_INT8)] = False,
    fp16: Annotated[bool, Parameter(show_default=False, group=_INT8)] = False,
    calibration: Annotated[Path | None, Parameter(group=_INT8)] = None,
    samples: Annotated[int | None, Parameter(group=_INT8)] = None,
    method: Annotated[str | None, Parameter(group=_INT8)] = None,
    seed: Annotated[int | None, Parameter(group=_INT8)] = None,
    recipe: Annotated[str | None, Parameter(group=_INT8)] = None,
    ranges: Annotated[Path | None, Parameter(group=_INT8)] = None,
    cpu: Annotated[Literal["vnni", "avx2", "arm"] | None, Parameter(group=_INT8)] = None,
    keep_fp32: Annotated[bool, Parameter(show_default=False, group=_INT8)] = False,
    target: Annotated[Literal["cpu", "tensorrt", "tensorrt-rtx"], Parameter(group=_GPU)] = "cpu",
    gpu: Annotated[str | None, Parameter(group=_GPU)] = None,
    batch: Annotated[str | None, Parameter(group=_GPU)] = None,
    evaluation: Annotated[Path | None, Parameter(name="--eval", group=_PROOF)] = None,
    max_drop: Annotated[float | None, Parameter(group=_PROOF)] = None,
    min_agreement: Annotated[float | None, Parameter(group=_PROOF)] = None,
    max_latency_ms: Annotated[float | None, Parameter(group=_BUDGET)] = None,
    max_size_mb: Annotated[float | None, Parameter(group=_BUDGET)] = None,
    max_memory_mb: Annotated[float | None, Parameter(group=_BUDGET)] = None,
    out: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    ort_format: Annotated[bool, Parameter(show_default=False, group=_OUTPUT)] = False,
    top_k: Annotated[int | None, Parameter(group=_OUTPUT)] = None,
    force: Annotated[bool, Parameter(show_default=False, group=_OUTPUT)] = False,
    no_pictures: Annotated[bool, Parameter(name="--no-pictures", show_default=False, group=_OUTPUT)] = False,
    as_json: Annotated[AsJson, Parameter(group=_OUTPUT)] = False,
    every: Annotated[bool, Parameter(name="--all", show_default=False, group=_MATRIX)] = False,
    precisions: Annotated[str | None, Parameter(group=_MATRIX)] = None,
    jobs: Annotated[int | None, Parameter(group=_MATRIX)] = None,
    memory: Annotated[float | None, Parameter(group=_MATRIX)] = None,
    cell_memory: Annotated[float | None, Parameter(name="--memory-per-cell", group=_MATRIX)] = None,
    timeout: Annotated[float | None, Parameter(group=_MATRIX)] = None,
    cluster: Annotated[str | None, Parameter(group=_MATRIX)] = None,
) -> None:
    """Convert a network, prove that it is still the same, and write a bundle for the device.

    Parameters
    ----------
    models
        A name from `xxdeploy models`, in any spelling, or a model file of your own (.keras, .h5). Several, or a matrix
        in a file (.toml), are made one by one.
    weights
        imagenet (Keras downloads it once), sample (ships here), none (random, by --seed), or an .h5 file.
    alpha
        Width multiplier of MobileNet and MobileNetV2.
    input_size
        Height and width of the input, in pixels.
    classes
        Outputs of the classifier.
    no_top
        Leave the classifier out: the bundle gives features.
    pooling
        Pool the features over the image.
    labels
        Text file with a class name a line.
    preprocess
        How pixels are scaled: tf, caffe, torch, none, or a file with mean and std. By default as the network was
        trained; of a model file, as a layer in it does.
    resize
        squash (by default) ignores the aspect ratio; crop cuts the middle out.
    output_layer
        Of a model file: the layer whose result is wanted.
    task
        Of a model file: what its outputs are. By default as its last layers say; a layer with weights and without
        activation is taken for the scores of classes.
    custom_objects
        Of a model file: a layer or function of yours that it is made of, as module:name.
    unsafe_lambda
        Of a model file: run the code in its Lambda layers, which can do anything that you can.
    int8
        Quantize to 8 bit, calibrated on images.
    fp16
        Cast to 16-bit floats; layers whose values leave them stay in 32. Of calibration images, if given, the values.
    calibration
        Folder of images like those it will see (no labels needed), or a recipe (.toml).
    samples
        How many of them to use. By default as many as the recipe says, or 300 at most. Others of the same folder, or
        a quarter of these, judge the result while it is made.
    method
        How ranges are chosen: percentile-P (such as 99.99), minmax, moving-average, mse, entropy.
    seed
        Draws the images, and random weights.
    recipe
        How to quantize, in a file or by the name of a recipe that ships; auto climbs the ladder from the first rung.
    ranges
        File of ranges to take instead of measuring them: TensorRT's calibration cache, or a bundle's calibration.json.
        Calibration images then correct and judge only.
    keep_fp32
        Put the FP32 model into the bundle, too: `xxdeploy tune` takes it where INT8 is not faster.
    cpu
        The one kind of processor to export for. By default the bundle serves all.
    target
        tensorrt or tensorrt-rtx: the bundle carries an engine, whose precision is proved, and the ONNX that it was
        built from, which a processor runs, too.
    gpu
        Cards to build for (tensorrt-rtx): sm75, sm80, sm86, sm89, sm120, sm121. By default the one that is here.
    batch
        Smallest, usual and largest batch of the engine, 1,1,8 by default.
    evaluation
        Folder of labeled images: one subfolder a class, or a labels.csv.
    max_drop
        Promise: fail when top-1 falls by more points than this.
    min_agreement
        Promise: fail when fewer images than this, in percent, keep the class that Keras gives. Needs no labels.
    max_latency_ms
        Fail when the median of an image, decoded, to its answer is more than this on this machine.
    max_size_mb
        Fail when the files of the bundle are more than this together (MB are 10^6 bytes).
    max_memory_mb
        Fail when a fresh Python process that loads the bundle and answers once takes more than this.
    out
        Folder of the bundle. By default exports/MODEL-PRECISION.
    ort_format
        Write the model in ONNX Runtime's own format (.ort), which starts faster and no other engine reads.
    top_k
        Let the model itself give only so many classes, best first: for programs that read it without xxdeploy.
    force
        Replace the folder if it exists. Of many, repeat those that are done.
    no_pictures
        Leave photographs out of the report: by default it shows some that it was calibrated on, and those whose class
        changed.
    every
        Every network of the catalog.
    precisions
        Of each network, such as fp32,int8.
    jobs
        How many at once. By default half as many as there are processors.
    memory
        GB for all of them together. By default most of what is free.
    cell_memory
        GB for each. By default by its number of weights.
    timeout
        Seconds for each, 3600 by default.
    cluster
        Address of a Dask scheduler to run them on.
    """
    given = dict(locals())  # first of all: what else is named here is no argument
    from xxdeploy.cli.batch import export_matrix, is_matrix

    if is_matrix(given):
        export_matrix(given)
        return
    from xxdeploy.cli.progress import ProgressView
    from xxdeploy.exporter import ExportPlan, export
    from xxdeploy.exporter.assemble import bundle_name
    from xxdeploy.exporter.budgets import Limits
    from xxdeploy.exporter.source import SUFFIXES, name_of
    from xxdeploy.models.catalog import BuildOptions, find

    own = Path(models[0])
    source = own if own.suffix.lower() in SUFFIXES or own.is_file() else find(models[0])
    plan = ExportPlan(
        precision=_precision(int8=int8, fp16=fp16),
        weights=weights,
        options=BuildOptions(
            alpha=alpha, input_size=input_size, classes=classes, include_top=not no_top, pooling=pooling, seed=seed or 0
        ),
        calibration=calibration,
        samples=samples,
        seed=seed,
        method=method,
        evaluation=evaluation,
        max_drop=max_drop,
        min_agreement=min_agreement,
        recipe=recipe,
        ranges=ranges,
        cpu=cpu,
        labels=labels,
        preprocess=preprocess,
        resize=resize,
        output_layer=output_layer,
        task=task,
        custom_objects=custom_objects,
        unsafe_lambda=unsafe_lambda,
        force=force,
        pictures=not no_pictures,
        engine=_engine(target, gpu, batch),
        keep_fp32=keep_fp32,
        limits=Limits(max_latency_ms, max_size_mb, max_memory_mb),
        ort_format=ort_format,
        top_k=top_k,
    )
    folder = Path("exports") / bundle_name(name_of(source), plan) if out is None else out
    with ProgressView(as_json=as_json) as progress:
        result = export(source, plan, folder, on_progress=progress)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _precision(*, int8: bool, fp16: bool) -> str:
    """Return what the flags ask for; a bundle has one precision."""
    if int8 and fp16:
        raise UsageError(
            "--int8 and --fp16 are given",
            hint="leave one of them out, or --precisions fp16,int8",
            code="two-precisions",
        )
    return "int8" if int8 else "fp16" if fp16 else "fp32"


def _engine(target: str, gpu: str | None, batch: str | None) -> EngineOptions | None:
    """Return the engine that is asked for, None for none."""
    from xxdeploy.engine.options import Batch, EngineOptions, parse_batch, parse_gpus

    if target == "cpu":
        if (gpu, batch) != (None, None):
            raise UsageError(
                "--gpu and --batch are about an engine, and none is built",
                hint="add --target tensorrt-rtx or --target tensorrt, or leave them out",
                code="target-missing",
            )
        return None
    cards = () if gpu is None else parse_gpus(gpu)
    return EngineOptions(target=target, gpus=cards, batch=Batch() if batch is None else parse_batch(batch))


def _show(result: ExportResult) -> None:
    features = result.task == "features"
    if result.rungs:
        _show_rungs(result.rungs)
    print_rows(result.rows)
    print_line()
    _show_parities(result.parities, features=features)
    for group in (result.sentences, result.processors, [f"note: {note}" for note in result.notes]):
        if group:
            print_line()
        for sentence in group:
            print_line(sentence, hang=2)
    bundle = shlex.quote(str(result.bundle))
    print_line()
    print_line(f"wrote {bundle}, with report.html")
    print_line(f"next: xxdeploy bench {bundle}" if features else f"next: xxdeploy predict {bundle} PHOTO.jpg")


def _show_rungs(rungs: Sequence[RungRow]) -> None:
    """Print the ladder: what each rung gave on the selection images, and what it costs on the device."""
    features = rungs[0].agreement is None
    headings = ("rung", "", "SQNR" if features else "agreement", "KL", "drop", "p50", "of float", "made in")
    table = [
        (
            row.rung,
            "taken" if row.taken else "left",
            (f"{row.sqnr_db:.1f} dB" if row.sqnr_db is not None else "-") if features else share(row.agreement),
            "-" if row.kl_nats is None else f"{row.kl_nats:.4f}",
            share(row.drop),
            milliseconds(row.latency_p50_ms),
            f"{row.latency_p50_ms / row.float_latency_p50_ms:.2f}x",
            f"{row.seconds:.0f} s",
        )
        for row in rungs
    ]
    print_line(f"INT8 beside float on {rungs[0].images} images:")
    print_table(*_measured(headings, table), left=2)
    print_line()


def _show_parities(parities: Sequence[Parity], *, features: bool) -> None:
    """Print how far each stage is from Keras: of ONNX Runtime's optimizations off and on, the worse."""
    stages: dict[str, list[Parity]] = {}
    for parity in parities:
        stages.setdefault(parity.candidate.partition(", ")[0], []).append(parity)
    headings = (f"beside {parities[0].reference}", "images", "largest difference", "cosine", "agreement")
    table = [
        (
            stage,
            str(found[0].images),
            f"{max(each.max_abs for each in found):.1e}",
            f"{min(each.cosine for each in found):.4f}",
            "-" if features else share(min(each.agreement for each in found)),
        )
        for stage, found in stages.items()
    ]
    print_table(*_measured(headings, table))


def _measured(headings: Sequence[str], table: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Leave out the columns in which there is nothing."""
    kept = [index for index in range(len(headings)) if {row[index] for row in table} != {"-"}]
    return [headings[index] for index in kept], [[row[index] for index in kept] for row in table]
