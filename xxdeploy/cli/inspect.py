"""``xxdeploy inspect``: what is in an ONNX file or a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from xxdeploy.cli.output import AsJson, megabytes, plain, print_facts, print_json, print_line, print_table
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.runtime.bundle.manifest import Manifest
    from xxdeploy.verify.describe import OnnxFacts

NAME = "inspect"
EXAMPLE = """Examples:

  xxdeploy inspect exports/mobilenetv2-int8
  xxdeploy inspect model.onnx --json
  xxdeploy inspect exports/mobilenetv2-fp32 --sensitivity --calibration train/"""

_SENSITIVITY = Group("Which layer hurts", sort_key=1)
_TOP = 20


def command(
    path: Path,
    /,
    *,
    as_json: AsJson = False,
    sensitivity: Annotated[bool, Parameter(show_default=False, group=_SENSITIVITY)] = False,
    calibration: Annotated[Path | None, Parameter(group=_SENSITIVITY)] = None,
    samples: Annotated[int | None, Parameter(group=_SENSITIVITY)] = None,
    method: Annotated[str | None, Parameter(group=_SENSITIVITY)] = None,
    preprocess: Annotated[Literal["tf", "caffe", "torch", "none"] | None, Parameter(group=_SENSITIVITY)] = None,
    resize: Annotated[Literal["squash", "crop"] | None, Parameter(group=_SENSITIVITY)] = None,
    top: Annotated[int | None, Parameter(group=_SENSITIVITY)] = None,
) -> None:
    """Say what is in an ONNX file or a bundle; with --sensitivity, what INT8 does to each layer.

    Parameters
    ----------
    path
        An .onnx file, or the folder of a bundle. For a bundle the hashes are checked.
    sensitivity
        Signal to quantization noise of each layer: of a float network on images, of an INT8 bundle as recorded.
    calibration
        Folder of images like those it will see (no labels needed), or a recipe (.toml).
    samples
        How many of them to use. By default as many as the recipe says, or 100 at most.
    method
        How ranges are chosen, as in `xxdeploy export`.
    preprocess
        How pixels become the input of an .onnx file. A bundle says so itself.
    resize
        squash (by default) or crop, for an .onnx file.
    top
        How many layers the table shows, 20 by default. JSON has them all.
    """
    options = (calibration, samples, method, preprocess, resize, top)
    if not sensitivity and any(option is not None for option in options):
        raise UsageError(
            "these options ask which layer hurts, but --sensitivity is not given",
            hint="add --sensitivity, or leave them out",
            code="sensitivity-options",
        )
    if top is not None and top < 1:
        raise UsageError(f"--top {top} shows nothing", hint="1 or more", code="sensitivity-options")
    if sensitivity and path.exists():
        from xxdeploy.cli.sensitivity import show_sensitivity

        show_sensitivity(
            path,
            calibration=calibration,
            samples=samples,
            method=method,
            preprocess=preprocess,
            resize=resize,
            top=top or _TOP,
            as_json=as_json,
        )
    elif path.is_dir():
        _bundle(path, as_json=as_json)
    elif path.is_file():
        _onnx(path, as_json=as_json)
    else:
        raise UsageError(
            f"there is no file or folder {path}", hint="give an .onnx file or the folder of a bundle", code="no-file"
        )


def _bundle(path: Path, *, as_json: bool) -> None:
    with extra("edge"):
        from xxdeploy.bundle.check import check_bundle
    manifest = check_bundle(path)
    if as_json:
        print_json(json.loads(manifest.to_json()))  # as it is in the file, which leaves out what is not set
        return
    print_facts(_facts_of_manifest(manifest))
    print_line()
    print_table(
        ("variant", "precision", "scheme", "needs", "size"),
        [
            (v.name, v.precision, v.scheme, " ".join(v.requires) or "-", megabytes(_size(manifest, v.model)))
            for v in manifest.variants
        ],
        left=4,
    )
    for name, value in manifest.evidence.items():
        _show_evidence(name, value)


def _facts_of_manifest(manifest: Manifest) -> dict[str, str]:
    p = manifest.preprocess
    more = ((output.name, output.classes) for output in manifest.more_outputs)
    outputs = [(manifest.output_name, manifest.classes), *more]
    return {
        "name": manifest.name,
        "task": manifest.task,
        "input": f"{manifest.input_name} (batch, {p.height}, {p.width}, {p.channels}), {p.mode}, {p.resize}",
        "output": "; ".join(f"{name}, {number} classes" if number else name for name, number in outputs),
        "labels": manifest.labels or "-",
        "self-test": f"within {manifest.golden.tolerance:.3g}",
        "files": f"{len(manifest.files)}, {megabytes(sum(entry.size for entry in manifest.files))}, hashes right",
        "source": _line(manifest.source),
        "tools": _line(manifest.tools),
    }


def _size(manifest: Manifest, path: str) -> int | None:
    return next((entry.size for entry in manifest.files if entry.path == path), None)


def _show_evidence(name: str, value: object) -> None:
    """Print what the manifest holds under one name: a list of objects as a table, all else on a line."""
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
    """Write a JSON value on one line."""
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
