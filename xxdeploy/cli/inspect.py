"""``xxdeploy inspect``: the content of a model file or a bundle, and the INT8 sensitivity of its layers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from xxdeploy.cli.model_file import show_model
from xxdeploy.cli.output import AsJson, megabytes, plain, print_facts, print_json, print_line, print_table
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.results import LayerNoise
    from xxdeploy.runtime.bundle.manifest import Manifest
    from xxdeploy.verify.describe import OnnxFacts

EXAMPLE = """Examples:

  xxdeploy inspect exports/mobilenetv2-int8
  xxdeploy inspect model.onnx --json
  xxdeploy inspect exports/mobilenetv2-fp32 --sensitivity --calibration train/"""

_TOP = 20


@dataclass(frozen=True, slots=True)
class SensitivityRequest:
    """Options of the measurement of each layer.

    Parameters
    ----------
    calibration
        Folder of images like those in use (no labels needed), or a calibration set (.toml).
    samples
        Number of images to use. Default: that of the calibration set, else at most 100.
    method
        Calibrator, as in `xxdeploy export`.
    preprocess
        How pixels are scaled, for an .onnx file. A bundle contains this.
    resize
        squash (default), crop, fit or pad, for an .onnx file.
    resample
        The filter that resizes images, as in `xxdeploy export`, for an .onnx file.
    top
        Number of layers in the table, 20 by default. JSON has all layers.
    """

    calibration: Path | None = None
    samples: int | None = None
    method: str | None = None
    preprocess: Literal["tf", "caffe", "torch", "none"] | None = None
    resize: Literal["squash", "crop", "fit", "pad"] | None = None
    resample: str | None = None
    top: int | None = None


_NO_REQUEST = SensitivityRequest()
_GROUP = Group("Sensitivity of each layer", sort_key=1)


def command(
    path: Path,
    /,
    *,
    as_json: AsJson = False,
    sensitivity: Annotated[bool, Parameter(group=_GROUP)] = False,
    request: Annotated[SensitivityRequest, Parameter(name="*", group=_GROUP)] = _NO_REQUEST,
) -> None:
    """Show the content of a model file or a bundle; with --sensitivity, the error that INT8 adds at each layer.

    Parameters
    ----------
    path
        An .onnx file, the folder of a bundle, whose hashes are checked, or a Keras file or SavedModel folder, as in
        `xxdeploy doctor`.
    sensitivity
        Show the signal-to-quantization-noise ratio of each layer, measured on images or recorded in an INT8 bundle.
    """
    if not sensitivity and request != _NO_REQUEST:
        given = [field.name for field in fields(request) if getattr(request, field.name) is not None]
        raise UsageError(
            f"--{given[0]} is an option of --sensitivity, which is not given",
            hint="add --sensitivity, or leave the option out",
            code="sensitivity-options",
        )
    if request.top is not None and request.top < 1:
        raise UsageError(f"--top {request.top} is less than 1", hint="use 1 or more", code="sensitivity-options")
    if not path.exists():
        raise UsageError(
            f"there is no file or folder {path}", hint="give an .onnx file or the folder of a bundle", code="no-file"
        )
    if sensitivity:
        _sensitivity(path, request, as_json=as_json)
    elif path.is_dir() and not _is_keras(path):
        _bundle(path, as_json=as_json)
    elif _is_keras(path):
        show_model(path, as_json=as_json)
    else:
        _onnx(path, as_json=as_json)


def _is_keras(path: Path) -> bool:
    with extra("export"):
        from xxdeploy.convert.user_model.quarantine.sniff import sniff
    try:
        sniff(path)
    except UsageError:
        return False
    return True


def _bundle(path: Path, *, as_json: bool) -> None:
    with extra("edge"):
        from xxdeploy.bundle.folder import check_bundle
    manifest = check_bundle(path)
    if as_json:
        print_json(json.loads(manifest.to_json()))  # as in the file, which omits fields that are not set
        return
    print_facts(_facts_of_manifest(manifest))
    sizes = {entry.path: entry.size for entry in manifest.files}
    print_line()
    print_table(
        ("variant", "precision", "scheme", "needs", "size"),
        [
            (v.name, v.precision, v.scheme, " ".join(v.requires) or "-", megabytes(sizes.get(v.model)))
            for v in manifest.variants
        ],
        left=4,
    )
    for name, value in manifest.evidence.items():
        _show_evidence(name, value)


def _facts_of_manifest(manifest: Manifest) -> dict[str, str]:
    from xxdeploy.runtime.inputs import described_batch, parts_of

    inputs = zip(manifest.input_names, (part for _, part in parts_of(manifest.form)), strict=True)
    more = ((output.name, output.classes) for output in manifest.more_outputs)
    outputs = [(manifest.output_name, manifest.classes), *more]
    pixels = ""
    if manifest.output_range is not None:
        pixels = f" (black is {manifest.output_range[0]:g}, white {manifest.output_range[1]:g})"
    return {
        "name": manifest.name,
        "task": manifest.task,
        "input": "; ".join(f"{name} {described_batch(part)}" for name, part in inputs),
        "output": "; ".join(f"{name}, {number} classes" if number else name for name, number in outputs) + pixels,
        "labels": manifest.labels or "-",
        "self-test": f"within {manifest.golden.tolerance:.3g}",
        "files": f"{len(manifest.files)}, {megabytes(sum(entry.size for entry in manifest.files))}, hashes correct",
        "source": _line(manifest.source),
        "tools": _line(manifest.tools),
    }


def _show_evidence(name: str, value: object) -> None:
    """Print one entry of the manifest: a list of objects as a table, all other values on a line."""
    if isinstance(value, dict):
        if flat := {key: item for key, item in value.items() if not isinstance(item, (dict, list))}:
            print_line()
            print_line(f"{name}: {_line(flat)}")
        for key in [key for key in value if key not in flat]:
            _show_evidence(f"{name}, {key}", value[key])
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        headings = sorted({key for item in value for key in item}, key=lambda key: (_is_number(value[0].get(key)), key))
        words = [heading for heading in headings if not _is_number(value[0].get(heading))]
        print_line()
        print_line(f"{name}:")
        print_table(headings, [[_short(item.get(key)) for key in headings] for item in value], left=len(words))
    elif value not in (None, [], ""):
        print_line()
        print_line(f"{name}: {_short(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _line(value: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {_short(item)}" for key, item in value.items())


def _short(value: object) -> str:
    """Format a JSON value on one line."""
    if isinstance(value, dict):
        return f"({_line(value)})"
    if isinstance(value, list):
        return "; ".join(_short(item) for item in value)
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _onnx(path: Path, *, as_json: bool) -> None:
    with extra("export"):
        from xxdeploy.verify.describe import describe_onnx
    facts = describe_onnx(path)
    if as_json:
        print_json({"file": path, **plain(facts)})
        return
    print_facts(_facts_of_onnx(facts))
    print_line()
    print_table(("operator", "count"), [(name, str(count)) for name, count in facts.operators.items()])


def _facts_of_onnx(facts: OnnxFacts) -> dict[str, str]:
    return {
        "size": megabytes(facts.size),
        "sha256": facts.digest,
        "IR, opset": f"{facts.ir_version}, " + ", ".join(f"{d} {v}" for d, v in facts.opsets.items()),
        "producer": facts.producer or "-",
        "inputs": "\n".join(facts.inputs),
        "outputs": "\n".join(facts.outputs),
        "parameters": f"{facts.parameters:,} in {facts.initializers} tensors",
        "nodes": f"{facts.nodes}, of them {facts.transposes} Transpose, {facts.quantize} Q, {facts.dequantize} DQ",
        "not finite": ", ".join(facts.non_finite) or "none",
    }


def _sensitivity(path: Path, request: SensitivityRequest, *, as_json: bool) -> None:
    """Measure the layers, or read the record of an INT8 bundle, and print them."""
    with extra("edge"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.diagnose.sensitivity import find_sensitivity
        from xxdeploy.runtime.image.resample import ANTIALIASED
        from xxdeploy.runtime.image.sizing import Sizing
    sizing = None
    if request.resize or request.resample:
        sizing = Sizing(request.resize or "squash", request.resample or ANTIALIASED)
    with ProgressView(as_json=as_json) as progress:
        measured = find_sensitivity(
            path,
            request.calibration,
            samples=request.samples,
            method=request.method,
            preprocess=request.preprocess,
            sizing=sizing,
            on_progress=progress,
        )
    if as_json:
        print_json({"file": path, **plain(measured)})
        return
    how = [measured.scheme]
    if measured.method is not None:
        calibrated = f"{measured.method} on {measured.calibrated_images} images"
        how.append(f"{calibrated}, noise on {measured.measured_images} of them")
    print_line(f"signal to quantization noise in dB, the worst layer first ({', '.join(how)})")
    print_line()
    top = request.top or _TOP
    print_table(
        ("layer", "operator", "alone", "weights", "input", "output", "network"),
        [_row(layer) for layer in measured.layers[:top]],
        left=2,
    )
    print_line()
    if rest := measured.layers[top:]:
        one, best = len(rest) == 1, rest[0].sqnr_db  # layers without a ratio come last
        ratio = "only zeros" if best is None else f"{best:.1f} dB or more"
        verb = ("outputs" if one else "output") if best is None else ("has" if one else "have")
        others = f"{len(rest)} other layer{'' if one else 's'}"
        print_line(f"{others} {verb} {ratio} (--top {len(measured.layers)} shows all layers)")
    print_line("alone: only this layer is quantized; weights, input, output: only this part of the layer is quantized")
    print_line("network: the whole network up to this layer is quantized")


def _row(layer: LayerNoise) -> tuple[str, ...]:
    ratios = (layer.sqnr_db, layer.weights_db, layer.input_db, layer.output_db, layer.accumulated_db)
    return (layer.layer, layer.operator, *("-" if ratio is None else f"{ratio:.1f}" for ratio in ratios))
