"""The bill of materials: valid CycloneDX, complete, and the same for equal bundles."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
import tiny_bundle
from described import EVIDENCE

from xxdeploy.report.bom import BOM, bill_of_materials, task_word
from xxdeploy.results import Evidence
from xxdeploy.runtime.bundle.tasks import TASKS


def made(**changes: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    files, manifest = tiny_bundle.parts_and_manifest()
    files = {**files, "report.html": b"times"}
    return files, json.loads(bill_of_materials(replace(manifest, **changes), EVIDENCE, files))


def test_it_is_valid_cyclonedx() -> None:
    pytest.importorskip("cyclonedx", reason="pip install 'cyclonedx-python-lib[json-validation]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    document = made()[1]
    assert validator.validate_str(json.dumps(document)) is None
    assert validator.validate_str(json.dumps({**document, "unknown": 1})) is not None
    files, manifest = tiny_bundle.parts_and_manifest(features=True)
    assert validator.validate_str(bill_of_materials(manifest, Evidence(), files)) is None


def test_each_file_but_the_report_has_its_hash() -> None:
    files, document = made()
    assert {part["name"]: part["hashes"] for part in document["components"] if part["type"] == "file"} == {
        path: [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]
        for path, content in files.items()
        if path != "report.html"
    }
    references = [part["bom-ref"] for part in document["components"]]
    assert len(set(references)) == len(references)
    assert set(document["dependencies"][0]["dependsOn"]) <= set(references)


def test_accuracy_has_its_interval_and_images_their_digest() -> None:
    document = made()[1]
    card = document["metadata"]["component"]["modelCard"]
    metrics = {
        (metric["type"], metric["slice"]): metric for metric in card["quantitativeAnalysis"]["performanceMetrics"]
    }
    # Wilson's interval of 300 of 400, by R: prop.test(300, 400, correct = FALSE)
    assert metrics["top-1 accuracy", "onnx-int8, 400 images"] == {
        "type": "top-1 accuracy",
        "slice": "onnx-int8, 400 images",
        "value": "0.7500",
        "confidenceInterval": {"lowerBound": "0.7053", "upperBound": "0.7899"},
    }
    assert metrics["same class as keras", "onnx-int8, 400 images"]["value"] == "0.9000"
    data = {part["name"]: part["properties"] for part in document["components"] if part["type"] == "data"}
    assert {"name": "xxdeploy:data_sha256", "value": "c" * 64} in data["calibration images"]
    assert {"name": "xxdeploy:images", "value": "400"} in data["evaluation images"]
    assert [dataset["ref"] for dataset in card["modelParameters"]["datasets"]] == [
        "data:calibration",
        "data:evaluation",
    ]


def test_equal_bundles_have_equal_documents_and_others_another_number() -> None:
    assert made() == made()
    assert made()[1]["serialNumber"] != made(name="other")[1]["serialNumber"]
    files, manifest = tiny_bundle.parts_and_manifest()
    assert bill_of_materials(manifest, EVIDENCE, files) == bill_of_materials(manifest, EVIDENCE, {**files, BOM: b"old"})


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_word(task: str) -> None:
    _, manifest = tiny_bundle.parts_and_manifest()
    about: dict[str, Any] = {"task": task, "classes": 10 if task in ("classification", "sequence") else 0}
    about |= {"blank": 0} if task == "sequence" else {}
    about |= {"output_range": (0.0, 1.0)} if task == "image" else {}
    labels = manifest.labels if about["classes"] else None
    schema = max(1, TASKS[task].schema)
    assert task_word(replace(manifest, labels=labels, schema=schema, **about)).startswith("image-")
