"""``xxdeploy inspect --sensitivity``: the table of which layer hurts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xxdeploy.cli.output import plain, print_json, print_line, print_table
from xxdeploy.cli.progress import ProgressView
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.results import LayerNoise


def show_sensitivity(
    path: Path,
    *,
    calibration: Path | None,
    samples: int | None,
    method: str | None,
    preprocess: str | None,
    resize: str | None,
    top: int,
    as_json: bool,
) -> None:
    """Measure, or read the record of an INT8 bundle, and print; errors as ``find_sensitivity``."""
    with extra("edge"):
        from xxdeploy.diagnose.sensitivity import find_sensitivity
    with ProgressView(as_json=as_json) as progress:
        found = find_sensitivity(
            path,
            calibration,
            samples=samples,
            method=method,
            preprocess=preprocess,
            resize=resize,
            on_progress=progress,
        )
    if as_json:
        print_json({"file": path, **plain(found)})
        return
    how = [found.scheme]
    if found.method is not None:
        how.append(f"{found.method} on {found.calibrated_images} images, noise on {found.measured_images} of them")
    print_line(f"signal to quantization noise in dB, the worst layer first ({', '.join(how)})")
    print_line()
    shown = found.layers[:top]
    print_table(
        ("layer", "operator", "alone", "weights", "input", "output", "network"),
        [(each.layer, each.operator, *map(_decibels, _ratios(each))) for each in shown],
        left=2,
    )
    print_line()
    if rest := found.layers[top:]:
        one, best = len(rest) == 1, rest[0].sqnr_db  # those without a figure come last
        what = "zeros only" if best is None else f"{best:.1f} dB or more"
        verb = ("gives" if best is None else "has") if one else ("give" if best is None else "have")
        print_line(
            f"{len(rest)} other layer{'' if one else 's'} {verb} {what} (--top {len(found.layers)} shows them all)"
        )
    print_line("alone: this layer is quantized, and reads the float network; weights, input, output are its parts")
    print_line("network: the whole INT8 network up to this layer")


def _ratios(layer: LayerNoise) -> tuple[float | None, ...]:
    return (layer.sqnr_db, layer.weights_db, layer.input_db, layer.output_db, layer.accumulated_db)


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
