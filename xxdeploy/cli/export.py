"""``xxdeploy export``: from a name to a verified bundle, or to many."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from xxdeploy.cli.output import measured_columns, print_json, print_line, print_rows, print_table
from xxdeploy.cli.verbosity import verbosity
from xxdeploy.exporter.option_fields import option
from xxdeploy.exporter.option_groups import (
    Budgets,
    GpuOptions,
    NetworkOptions,
    OutputOptions,
    PrecisionOptions,
    ProofOptions,
)
from xxdeploy.exporter.options import ExportOptions, option_name
from xxdeploy.figures import percent

if TYPE_CHECKING:
    from xxdeploy.exporter import ExportResult
    from xxdeploy.results import ComparisonRecord, Rung

EXAMPLE = """Examples:

  xxdeploy export mobilenetv2 --int8 --calibration train/ --eval val/
  xxdeploy export mobilenet --int8 --calibration train/ --target tensorrt-rtx --gpu sm86,sm89
  xxdeploy export lenet --int8 --weights sample"""

_OUTPUT = Group("Output", sort_key=6)
_DEFAULTS = ExportOptions()


def _options(group: Group) -> Parameter:
    """Show the fields of a dataclass as options of their own, in one group of the help screen."""
    return Parameter(name="*", group=group, name_transform=option_name, show_default=False)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the results go."""

    out: Path | None = option(None, "Folder of the bundle. By default exports/MODEL-PRECISION.")
    json: bool = option(False, "Print one JSON document instead of tables.")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """The options of many exports at once."""

    all: bool = option(False, "Export every network of the catalog.")
    precisions: str | None = option(None, "Precisions of each network, such as fp32,int8.")
    jobs: int | None = option(None, "Number of jobs at once. By default half the number of processors.")
    memory: float | None = option(None, "GB for all jobs together. By default most of what is free.")
    memory_per_cell: float | None = option(None, "GB for each job. By default by its number of weights.")
    timeout: float | None = option(None, "Seconds for each job; 3600 by default.")
    cluster: str | None = option(None, "Address of a Dask scheduler on which the jobs run.")


_DESTINATION, _NO_BATCH = Destination(), BatchRequest()


def command(
    *models: Annotated[str, Parameter(name="MODEL")],
    network: Annotated[NetworkOptions, _options(Group("Network", sort_key=1))] = _DEFAULTS.network,
    precision: Annotated[PrecisionOptions, _options(Group("Precision", sort_key=2))] = _DEFAULTS.precision,
    gpu: Annotated[GpuOptions, _options(Group("GPU", sort_key=3))] = _DEFAULTS.gpu,
    proof: Annotated[ProofOptions, _options(Group("Proof", sort_key=4))] = _DEFAULTS.proof,
    budgets: Annotated[Budgets, _options(Group("Budget", sort_key=5))] = _DEFAULTS.budgets,
    output: Annotated[OutputOptions, _options(_OUTPUT)] = _DEFAULTS.output,
    destination: Annotated[Destination, _options(_OUTPUT)] = _DESTINATION,
    batch: Annotated[BatchRequest, _options(Group("Many at once", sort_key=7))] = _NO_BATCH,
) -> None:
    """Convert a network, compare its answers with those of Keras, and write a bundle for the device.

    Parameters
    ----------
    models
        A name from `xxdeploy models`, in any spelling, or a model file of your own (.keras, .h5), or a SavedModel
        folder. Several, or a batch in a file (.toml), become one bundle each.
    """
    from xxdeploy.cli.batch import export_batch, is_batch

    if is_batch(models, batch):
        export_batch(models, (network, precision, gpu, proof, budgets, output), batch, destination)
        return
    from xxdeploy.cli.progress import ProgressView
    from xxdeploy.exporter import export
    from xxdeploy.exporter.assemble import bundle_name
    from xxdeploy.exporter.source import name_of, source_of

    source = source_of(models[0])
    options = ExportOptions(network, precision, gpu, proof, budgets, output)
    name = bundle_name(name_of(source), precision.name, weights=network.weights, target=gpu.target)
    out = Path("exports") / name if destination.out is None else destination.out
    with ProgressView(as_json=destination.json) as progress:
        exported = export(source, options, out, on_progress=progress)
    if destination.json:
        print_json(exported)
    else:
        _show(exported)


def _show(exported: ExportResult) -> None:
    is_classifier = exported.task == "classification"
    for warning in exported.conclusions.warnings:
        print_line(warning, hang=2)
    if len(exported.rungs) > 1 or (exported.rungs and verbosity().verbose):
        _show_rungs(exported.rungs)
    print_rows(exported.rows, exported.parities)
    images = " or ".join(str(count) for count in sorted({parity.images for parity in exported.parities}))
    print_line(
        f"max diff: the largest difference from {exported.parities[0].reference} in any output, on {images} images"
    )
    unseen = (_UNSEEN,) if is_classifier and exported.rows[0].top1 is None else ()
    notes = [f"note: {note}" for note in (*exported.notes, *unseen)]
    for group in (exported.conclusions.promises, exported.conclusions.sentences, exported.processors, notes):
        if group:
            print_line()
        for sentence in group:
            print_line(sentence, hang=2)
    bundle = shlex.quote(str(exported.bundle))
    print_line()
    print_line(f"wrote {bundle}, with report.html")
    named = " ".join(f"--input {name}=..." for name in exported.inputs)
    values = "PHOTO.jpg" if exported.inputs == ("image",) else named
    words = {"features": f"bench {bundle}", "image": f"predict {bundle} {values} --out PICTURE.png"}
    if (exported.bundle / "index.html").is_file():  # --target web
        words = {exported.task: f"serve {bundle}"}
    print_line(f"next: xxdeploy {words.get(exported.task, f'predict {bundle} {values}')}")


_UNSEEN = (
    "the comparison with Keras starts from scaled pixels: it cannot show that --preprocess and the order of the labels "
    "are those of the training; --eval with labeled images can"
)


def _show_rungs(rungs: Sequence[Rung]) -> None:
    """Print the ladder: what each rung was expected to cost and to gain, its accuracy, and why a rung was left."""
    first = rungs[0].comparison
    judged = first.figures[0].kind.heading if first.figures else "SQNR dB" if first.agreement is None else "agree %"
    headings = (
        *("rung", "", "expected", judged, "KL nats", "lost points"),
        *("of float", "seconds"),
    )
    table = [
        (
            rung.name,
            "taken" if rung.taken else f"left: {rung.reason}" if rung.reason else "left",
            "-" if rung.expected_seconds is None else f"{rung.expected_seconds:.0f} s, {percent(rung.expected_gain)}",
            _judged(rung.comparison),
            "-" if rung.comparison.kl_nats is None else f"{rung.comparison.kl_nats:.4f}",
            percent(rung.drop),
            "-" if rung.of_float is None else f"{rung.of_float:.2f}x",
            "-" if rung.seconds is None else f"{rung.seconds:.0f}",
        )
        for rung in rungs
    ]
    print_line(f"INT8 compared with float on {rungs[0].comparison.images} images:")
    print_table(*measured_columns(headings, table), left=2)
    if any(rung.expected_seconds is not None for rung in rungs):
        print_line("expected: the seconds and the gain in points of agreement, before the rung was climbed")
    print_line("of float: the time of an image as a multiple of the float model's, before the files are made")
    print_line()


def _judged(record: ComparisonRecord) -> str:
    """Return the figure that rungs are judged by: that of the task, the agreement, or for features the SQNR."""
    if record.figures:
        return record.figures[0].text
    if record.agreement is not None:
        return percent(record.agreement)
    return "-" if record.sqnr_db is None else f"{record.sqnr_db:.1f}"
