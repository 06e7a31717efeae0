"""``xxdeploy export``: from a name to a verified bundle, or to many."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from xxdeploy.cli.output import measured_columns, milliseconds, print_json, print_line, print_rows, print_table, share
from xxdeploy.exporter.option_fields import option
from xxdeploy.exporter.options import (
    Budgets,
    ExportOptions,
    GpuOptions,
    NetworkOptions,
    OutputOptions,
    PrecisionOptions,
    ProofOptions,
    option_name,
)

if TYPE_CHECKING:
    from xxdeploy.exporter import ExportResult
    from xxdeploy.results import Parity, Rung

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

    all: bool = option(False, "Every network of the catalog.")
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
    """Convert a network, prove that it is still the same, and write a bundle for the device.

    Parameters
    ----------
    models
        A name from `xxdeploy models`, in any spelling, or a model file of your own (.keras, .h5). Several, or a batch
        in a file (.toml), become one bundle each.
    """
    from xxdeploy.cli.batch import export_batch, is_batch

    if is_batch(models, batch):
        export_batch(models, (network, precision, gpu, proof, budgets, output), batch, destination)
        return
    from xxdeploy.cli.progress import ProgressView
    from xxdeploy.exporter import export
    from xxdeploy.exporter.assemble import bundle_name
    from xxdeploy.exporter.source import SUFFIXES, name_of
    from xxdeploy.models.catalog import find

    own = Path(models[0])
    source = own if own.suffix.lower() in SUFFIXES or own.is_file() else find(models[0])
    options = ExportOptions(network, precision, gpu, proof, budgets, output)
    out = Path("exports") / bundle_name(name_of(source), options) if destination.out is None else destination.out
    with ProgressView(as_json=destination.json) as progress:
        exported = export(source, options, out, on_progress=progress)
    if destination.json:
        print_json(exported)
    else:
        _show(exported)


def _show(exported: ExportResult) -> None:
    features = exported.task == "features"
    if exported.rungs:
        _show_rungs(exported.rungs)
    print_rows(exported.rows)
    print_line()
    _show_parities(exported.parities, features=features)
    for group in (exported.sentences, exported.processors, [f"note: {note}" for note in exported.notes]):
        if group:
            print_line()
        for sentence in group:
            print_line(sentence, hang=2)
    bundle = shlex.quote(str(exported.bundle))
    print_line()
    print_line(f"wrote {bundle}, with report.html")
    print_line(f"next: xxdeploy bench {bundle}" if features else f"next: xxdeploy predict {bundle} PHOTO.jpg")


def _show_rungs(rungs: Sequence[Rung]) -> None:
    """Print the ladder: the accuracy of each rung on the selection images, and its time on this machine."""
    features = rungs[0].comparison.agreement is None
    headings = ("rung", "", "SQNR" if features else "agreement", "KL", "drop", "p50", "of float", "made in")
    table = [
        (
            rung.name,
            "taken" if rung.taken else "left",
            _decibels(rung.comparison.sqnr_db) if features else share(rung.comparison.agreement),
            "-" if rung.comparison.kl_nats is None else f"{rung.comparison.kl_nats:.4f}",
            share(rung.drop),
            milliseconds(rung.milliseconds),
            "-" if rung.of_float is None else f"{rung.of_float:.2f}x",
            "-" if rung.seconds is None else f"{rung.seconds:.0f} s",
        )
        for rung in rungs
    ]
    print_line(f"INT8 compared with float on {rungs[0].comparison.images} images:")
    print_table(*measured_columns(headings, table), left=2)
    print_line()


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _show_parities(parities: Sequence[Parity], *, features: bool) -> None:
    """Print how far each stage is from Keras: the worse of ONNX Runtime's optimizations off and on."""
    from xxdeploy.results import worst_parities

    headings = (f"compared with {parities[0].reference}", "images", "largest difference", "cosine", "agreement")
    table = [
        (
            title,
            str(parity.images),
            f"{parity.max_abs:.1e}",
            f"{parity.cosine:.4f}",
            "-" if features else share(parity.agreement),
        )
        for title, parity in worst_parities(parities).items()
    ]
    print_table(*measured_columns(headings, table))
