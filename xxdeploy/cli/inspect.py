"""``xxdeploy inspect``: what is in an ONNX file or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xxdeploy.cli.output import AsJson, megabytes, plain, print_facts, print_json, print_line, print_table
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.runtime.manifest import Manifest
    from xxdeploy.verify.describe import OnnxFacts

NAME = "inspect"
EXAMPLE = "Examples:\n\n  xxdeploy inspect exports/mobilenetv2-int8\n  xxdeploy inspect model.onnx --json"


def command(path: Path, /, *, as_json: AsJson = False) -> None:
    """Say what is in an ONNX file or a bundle, without running it.

    Parameters
    ----------
    path
        An .onnx file, or the folder of a bundle. For a bundle the hashes are checked.
    """
    if path.is_dir():
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
        print_json(manifest)
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
    for title, facts in (("source", manifest.source), ("evidence", manifest.evidence), ("tools", manifest.tools)):
        print_line()
        print_facts({f"{title}: {key}": _short(value) for key, value in facts.items()})


def _facts_of_manifest(manifest: Manifest) -> dict[str, str]:
    p = manifest.preprocess
    return {
        "name": manifest.name,
        "task": manifest.task,
        "input": f"{manifest.input_name} (batch, {p.height}, {p.width}, {p.channels}), {p.mode}, {p.resize}",
        "output": f"{manifest.output_name}, {manifest.classes} classes" if manifest.classes else manifest.output_name,
        "labels": manifest.labels or "-",
        "self-test": f"within {manifest.golden.tolerance:g}",
        "files": f"{len(manifest.files)}, {megabytes(sum(entry.size for entry in manifest.files))}, hashes right",
    }


def _size(manifest: Manifest, path: str) -> int | None:
    return next((entry.size for entry in manifest.files if entry.path == path), None)


def _short(value: object) -> str:
    """Write a JSON value on one line; what is nested is for ``--json``."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list):
        if any(isinstance(item, (dict, list)) for item in value):
            return "\n".join(_short(item) for item in value)
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


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
