"""The model card ``README.md`` of a bundle, in the form of Hugging Face, with ``model-index``.

It holds reproducible facts only: no dates and no times. The metadata at its top are JSON values, which YAML reads.
Format: https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from xxdeploy.figures import percent
from xxdeploy.report.bom import BOM, bill_of_materials, task_word, top1_shares
from xxdeploy.report.preprocessor import PREPROCESSOR, preprocessor_config, unsaid
from xxdeploy.results import Evidence, worst_parities
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.tasks import TASKS
from xxdeploy.runtime.inputs import in_words, parts_of

CARD = "README.md"
"""The path of the card in a bundle, which Hugging Face fixes."""
_NO_TASK = ("image-regression",)
"""Tasks that Hugging Face does not know: a card leaves them out."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~])")


def describe(
    manifest: Manifest, evidence: Evidence, files: Mapping[str, bytes], *, card: bool, bom: bool
) -> dict[str, bytes]:
    """Return the files that describe a bundle to other tools, by path.

    ``card``: ``README.md``, and ``preprocessor_config.json`` unless ``unsaid`` has a reason; ``bom``: the bill of
    materials.
    """
    made: dict[str, bytes] = {}
    if card:
        if not unsaid(manifest):
            made[PREPROCESSOR] = (json.dumps(preprocessor_config(manifest), indent=1) + "\n").encode()
        made[CARD] = model_card(manifest, evidence, files).encode()
    if bom:
        made[BOM] = bill_of_materials(manifest, evidence, {**files, **made}).encode()
    return made


def model_card(manifest: Manifest, evidence: Evidence, files: Mapping[str, bytes]) -> str:
    """Return the card as Markdown."""
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in _metadata(manifest, evidence).items()), "---", ""]
    lines += [f"# {manifest.name}", "", _about(manifest), ""]
    lines += ["## Use", "", *_use(manifest), ""]
    lines += ["## Input and output", "", *_tensors(manifest), ""]
    lines += ["## Files", "", *_files(manifest, files), ""]
    measured = list(_measured(evidence))
    lines += ["## Measured", "", *measured, ""] if measured else []
    if evidence.notes:
        lines += ["## Limits", "", *(f"- {escaped(note)}" for note in evidence.notes), ""]
    lines += ["## Made by", "", *_origin(manifest), ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return a text of a user on one line, without a meaning in Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _metadata(manifest: Manifest, evidence: Evidence) -> dict[str, Any]:
    word, precision = task_word(manifest), manifest.variants[0].precision
    library = "tflite" if manifest.variants[0].model.endswith(".tflite") else "onnx"
    values: dict[str, Any] = {"library_name": library, "tags": [library, "keras", "xxdeploy", precision]}
    if word not in _NO_TASK:
        values["pipeline_tag"] = word
    shares = {runner: (share, interval, images) for runner, share, interval, images in top1_shares(evidence)}
    results = []
    for variant in manifest.variants:
        if (measured := shares.get(f"onnx-{variant.name}")) is not None and evidence.accuracy is not None:
            share, (low, high), images = measured
            digest = evidence.accuracy.data_sha256
            data = {"name": f"evaluation images of the export, SHA-256 {digest[:12]}", "type": "image-folder"}
            name = f"top-1 of {variant.model}, {images} images (95 % interval {percent(low)} to {percent(high)} %)"
            metric = {"type": "accuracy", "name": name, "value": round(share, 4)}
            results.append({"task": {"type": word}, "dataset": data, "metrics": [metric]})
    if results:
        values["model-index"] = [{"name": manifest.name, "results": results}]
    return values


def _about(manifest: Manifest) -> str:
    source = manifest.source
    weights = source.get("weights")
    named = f" with the weights {escaped(str(weights))}" if isinstance(weights, str) else ""
    return (
        f"The Keras model {escaped(str(source.get('model')))}{named}, exported by xxdeploy to "
        f"{manifest.variants[0].precision.upper()}. Task: {task_word(manifest)}"
        + (f", {manifest.classes} classes." if manifest.classes else ".")
        + " This page has measured facts only. The owner of the model adds its license, its training data and its "
        "intended use."
    )


def _use(manifest: Manifest) -> Iterator[str]:
    engine = "LiteRT" if manifest.variants[0].model.endswith(".tflite") else "ONNX Runtime"
    yield f"On a device with Python (numpy, Pillow and {engine}), this folder is a bundle of xxdeploy:"
    yield ""
    yield "```python"
    yield "from xxdeploy.runtime import load"
    yield ""
    yield f'runtime = load("{manifest.name}")  # compares every file with its hash in manifest.json'
    if manifest.more_inputs:
        values = ", ".join(f'"{name}": ...' for name in manifest.input_names)
        yield f"print(runtime.run({{{values}}}))"
    else:
        method = "predict" if manifest.task == "classification" else TASKS[manifest.task].method
        yield f"print(runtime.{method}({'...' if manifest.preprocess.to_json().get('shape') else 'photo.jpg'!r}))"
    yield "```"
    yield ""
    yield "Other programs run a model file with any engine that reads it, after the preprocessing below."


def _tensors(manifest: Manifest) -> Iterator[str]:
    for name, part in zip(manifest.input_names, (part for _, part in parts_of(manifest.form)), strict=True):
        yield f"- `{name}`: {in_words(part)}"
    first = manifest.variants[0]
    for kind, tensors in (("input", first.inputs), ("output", first.outputs)):
        for tensor in tensors:
            sides = ", ".join("batch" if side is None else str(side) for side in tensor.shape)
            layout = f", {layout}" if (layout := getattr(tensor, "layout", None)) else ""
            yield f"- {kind} `{tensor.name}` of `{first.model}`: {tensor.dtype} ({sides}){layout}"
    if any(tensor.dtype == "uint8" for tensor in first.inputs):
        yield f"- `{first.model}` takes the resized pixels as they are: its first layer contains the scaling"
    if missing := unsaid(manifest):
        yield f"- there is no `{PREPROCESSOR}`: {missing}"
    else:
        yield (
            f"- `{PREPROCESSOR}` says the same for transformers and transformers.js, for `{first.model}`. Their "
            "`pixel_values` are NCHW: transpose them to NHWC. A browser resizes with a filter of its own. Make "
            "transparent pictures opaque first: transformers lays them over white, transformers.js drops their alpha."
        )


def _files(manifest: Manifest, files: Mapping[str, bytes]) -> Iterator[str]:
    yield "| file | precision | needs | MB |"
    yield "| --- | --- | --- | --- |"
    for variant in manifest.variants:
        size = f"{len(files[variant.model]) / 1e6:.2f}" if variant.model in files else "-"
        yield f"| `{variant.model}` | {variant.precision} | {_needs(variant)} | {size} |"


def _needs(variant: Variant) -> str:
    return ", ".join(variant.requires) or "-"


def _measured(evidence: Evidence) -> Iterator[str]:
    shares = list(top1_shares(evidence))
    if shares:
        yield "| model | top-1 % | 95 % interval | images |"
        yield "| --- | --- | --- | --- |"
        for runner, share, (low, high), images in shares:
            yield f"| {escaped(runner)} | {percent(share)} | {percent(low)} to {percent(high)} | {images} |"
        yield ""
    for record in evidence.comparison:
        if record.agreement is not None and record.agreement_interval is not None:
            low, high = record.agreement_interval
            yield (
                f"- {escaped(record.candidate)} and {record.reference} predict the same class for "
                f"{percent(record.agreement)} % of {record.images} images (95 % interval {percent(low)} to "
                f"{percent(high)} %)"
            )
        for figure in record.figures:
            yield f"- {escaped(record.candidate)} against {record.reference}: {figure.kind.heading} {figure.text}"
    for title, parity in worst_parities(evidence.parity).items():
        yield (
            f"- {escaped(title)}: the largest difference of an output from {parity.reference} is "
            f"{parity.max_abs:.1e}, on {parity.images} images"
        )
    if (calibration := evidence.calibration) is not None:
        yield (
            f"- calibrated by {calibration.method} on {calibration.images} images, SHA-256 "
            f"`{calibration.data_sha256[:12]}`"
        )


def _origin(manifest: Manifest) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))
    yield f"{versions}. `manifest.json` has the evidence in full, `report.html` the report of the export."
