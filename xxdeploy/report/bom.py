"""A bill of materials in CycloneDX 1.6: the model, its files, the tools that made it, and the measured accuracy.

The document repeats for equal bundles: it has no time, and its serial number comes from its content. The report is left
out, since it has times. Specification: https://cyclonedx.org/docs/1.6/json (ECMA-424).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from xxdeploy.files import sha256
from xxdeploy.report.page import REPORT
from xxdeploy.results import Evidence
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.verify.statistics import wilson_interval

BOM = "bom.cdx.json"
"""The path of the bill of materials in a bundle."""
SPECIFICATION = "1.6"
TASK_WORDS = {
    "classification": "image-classification",
    "features": "image-feature-extraction",
    "image": "image-to-image",
    "mask": "image-segmentation",
    "values": "image-regression",
    "sequence": "image-to-text",
}
"""The tasks as Hugging Face calls them; it has no name for ``values``."""
_MODEL = "model"


def task_word(manifest: Manifest) -> str:
    """Return the task of a bundle in the words of ``TASK_WORDS``."""
    return TASK_WORDS["mask" if manifest.task == "image" and manifest.classes else manifest.task]


def bill_of_materials(manifest: Manifest, evidence: Evidence, files: Mapping[str, bytes]) -> str:
    """Return the document, JSON of CycloneDX 1.6, about the ``files`` of a bundle by their path."""
    listed = {path: content for path, content in files.items() if path not in (REPORT, BOM)}
    digest = sha256(manifest.to_json().encode()).hexdigest()
    data = list(_data(evidence))
    libraries = [_library(name, version) for name, version in sorted(manifest.tools.items())]
    document: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [tool for tool in libraries if tool["name"] == "xxdeploy"]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": _MODEL,
                "name": manifest.name,
                "modelCard": _model_card(manifest, evidence, [component["bom-ref"] for component in data]),
                "properties": _properties({"manifest_sha256_without_files": digest, **_source(manifest)}),
            },
        },
        "components": [
            *(_file(path, content) for path, content in sorted(listed.items())),
            *data,
            *(library for library in libraries if library["name"] != "xxdeploy"),
        ],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [f"file:{path}" for path in sorted(listed)]},
        ],
    }
    content = json.dumps(document, sort_keys=True).encode()
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{sha256(content).hexdigest()}")
    return json.dumps({**document, "serialNumber": f"urn:uuid:{serial}"}, indent=1, sort_keys=True) + "\n"


def top1_shares(evidence: Evidence) -> Iterator[tuple[str, float, tuple[float, float], int]]:
    """Yield runner, top-1 (0..1), its 95 % Wilson interval and the number of images of each measured accuracy."""
    if (accuracy := evidence.accuracy) is None:
        return
    for runner in accuracy.runners:
        if runner.top1 is not None:
            interval = wilson_interval(round(runner.top1 * accuracy.images), accuracy.images)
            yield runner.runner, runner.top1, (round(interval.low, 4), round(interval.high, 4)), accuracy.images


def _file(path: str, content: bytes) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{path}",
        "name": path,
        "hashes": [{"alg": "SHA-256", "content": sha256(content).hexdigest()}],
        "properties": _properties({"size": len(content)}),
    }


def _library(name: str, version: str) -> dict[str, Any]:
    return {
        "type": "application" if name == "xxdeploy" else "library",
        "bom-ref": f"tool:{name}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        **({} if name == "xxdeploy" else {"scope": "excluded"}),  # it made the bundle, and does not run it
    }


def _data(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Yield the image sets: their digest covers the images and how they were preprocessed."""
    for name, record in (("calibration", evidence.calibration), ("evaluation", evidence.accuracy)):
        if record is not None:
            facts = {"images": record.images, "data_sha256": record.data_sha256}
            yield {
                "type": "data",
                "bom-ref": f"data:{name}",
                "name": f"{name} images",
                "data": [{"type": "dataset", "name": f"{name} images"}],
                "scope": "excluded",
                "properties": _properties(facts),
            }


def _model_card(manifest: Manifest, evidence: Evidence, data: list[str]) -> dict[str, Any]:
    first = manifest.variants[0]
    tensors = {"inputs": first.inputs, "outputs": first.outputs}
    parameters: dict[str, Any] = {
        "task": task_word(manifest),
        **{key: [{"format": _format(tensor)} for tensor in held] for key, held in tensors.items() if held},
        **({"datasets": [{"ref": name} for name in data]} if data else {}),
    }
    if isinstance(family := manifest.source.get("family") or manifest.source.get("model"), str):
        parameters["modelArchitecture"] = family
    metrics = [
        {
            "type": "top-1 accuracy",
            "slice": f"{runner}, {images} images",
            "value": f"{share:.4f}",
            "confidenceInterval": {"lowerBound": f"{interval[0]:.4f}", "upperBound": f"{interval[1]:.4f}"},
        }
        for runner, share, interval, images in top1_shares(evidence)
    ]
    metrics += [_agreement(record) for record in evidence.comparison if record.agreement is not None]
    return {
        "modelParameters": parameters,
        **({"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}),
        **({"considerations": {"technicalLimitations": list(evidence.notes)}} if evidence.notes else {}),
    }


def _agreement(record: Any) -> dict[str, Any]:
    low, high = record.agreement_interval
    return {
        "type": f"same class as {record.reference}",
        "slice": f"{record.candidate}, {record.images} images",
        "value": f"{record.agreement:.4f}",
        "confidenceInterval": {"lowerBound": f"{low:.4f}", "upperBound": f"{high:.4f}"},
    }


def _format(tensor: Any) -> str:
    sides = ", ".join("batch" if side is None else str(side) for side in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} ({sides})"


def _source(manifest: Manifest) -> dict[str, object]:
    return {f"source.{key}": value for key, value in manifest.source.items() if value is not None}


def _properties(facts: Mapping[str, object]) -> list[dict[str, str]]:
    """Return facts as properties, whose values are texts."""
    return [
        {"name": f"xxdeploy:{name}", "value": value if isinstance(value, str) else json.dumps(value, sort_keys=True)}
        for name, value in sorted(facts.items())
    ]
