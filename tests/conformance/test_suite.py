"""The conformance suite is whole, the Python runtime passes it, and its runner sees faults."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conformance_bundles import planned
from make_conformance import told
from run_conformance import ABLE, judge

from xxdeploy.runtime.bundle.contents import npy_from_array
from xxdeploy.runtime.bundle.tasks import TASKS
from xxdeploy.runtime.image.preprocess import MODES
from xxdeploy.runtime.image.resample import RESAMPLES
from xxdeploy.runtime.image.sizing import RESIZES

READERS = Path(__file__).resolve().parents[2] / "xxdeploy" / "runtime" / "bundle"
PIXELS = "c8d93c1359b7fc17ddec876e16d052b18c9eca86d868b8ac5095fd934bd077eb"
"""SHA-256 of all inputs that are equal to the bit on every platform: a change of the arithmetic changes it."""


def expected(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return document


def test_the_description_follows_its_schema_and_names_each_entry_once(conformance: Path) -> None:
    document = expected(conformance)
    jsonschema.validate(document, json.loads((conformance / "expected.schema.json").read_text()))
    for kind in ("pictures", "answers", "refusals"):
        names = [entry["name"] for entry in document[kind]]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(("engine", "other"), [("onnxruntime", "litert"), ("litert", "onnx")])
def test_the_python_runtime_passes_and_skips_what_the_engine_cannot_read(
    conformance: Path, engine: str, other: str
) -> None:
    verdicts = list(judge(conformance, engine))
    assert [verdict.line(0) for verdict in verdicts if verdict.problem] == []
    assert {verdict.skipped for verdict in verdicts} == {None, other}
    assert sum(verdict.skipped is None for verdict in verdicts) > 150


def test_the_refusals_are_those_that_were_written_by_hand(conformance: Path) -> None:
    entries = expected(conformance)["refusals"]
    assert {entry["name"]: told(conformance, entry) for entry in entries} == {
        entry["name"]: entry["code"] for entry in entries
    }


def test_the_suite_has_every_code_of_a_reader_and_every_way_to_prepare_a_picture(conformance: Path) -> None:
    sources = [path.read_text(encoding="utf-8") for path in READERS.glob("*.py")]
    codes = {code for text in sources for code in re.findall(r'code="([a-z-]+)"', text)}
    assert len(codes) > 20
    assert codes - {entry["code"] for entry in expected(conformance)["refusals"]} == {
        "file-unreadable",  # depends on the user's rights, and root has all of them
        *("key-invalid", "min-version-without-key", "version-invalid"),  # the caller's mistakes
    }
    plans = list(planned())
    assert {task for plan in plans for task, _ in plan.network.outputs.values()} == set(TASKS)
    forms = [plan.picture for plan in plans if plan.picture is not None]
    assert {form.sizing.resample for form in forms} == set(RESAMPLES)
    assert {form.sizing.resize for form in forms} == set(RESIZES)
    assert {form.mode for form in forms} == {*MODES, "custom"}


def test_the_inputs_are_those_of_the_first_version_to_the_bit(conformance: Path) -> None:
    digest = hashlib.sha256()
    for entry in sorted(expected(conformance)["answers"], key=lambda entry: str(entry["name"])):
        for one in entry["inputs"]:
            if one["tolerance"] == 0:
                digest.update(entry["name"].encode() + (conformance / one["npy"]).read_bytes())
    assert digest.hexdigest() == PIXELS


def test_a_bundle_is_written_equally_again(conformance: Path, tmp_path: Path) -> None:
    plan = next(plan for plan in planned() if plan.name == "several-outputs")
    plan.write(tmp_path / "again")
    first = conformance / "bundles" / plan.name
    for file in sorted(path for path in first.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / file.relative_to(first)).read_bytes() == file.read_bytes()


@pytest.fixture
def few(conformance: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A suite of one good bundle, one answer and one refusal, and its description."""
    document = expected(conformance)
    answer = next(entry for entry in document["answers"] if entry["name"] == "classes/wide")
    refusal = next(entry for entry in document["refusals"] if entry["name"] == "missing-labels.txt")
    folder = tmp_path / "few"
    for path in ("bundles/classes", "hostile/missing-labels.txt"):
        shutil.copytree(conformance / path, folder / path)
    for name in ("pictures", "expected", "keys"):
        shutil.copytree(conformance / name, folder / name)
    document["bundles"] = [entry for entry in document["bundles"] if entry["path"] == "bundles/classes"]
    return folder, {**document, "answers": [answer], "refusals": [refusal]}


def problems(folder: Path, document: dict[str, Any], **options: Any) -> list[str]:
    (folder / "expected.json").write_text(json.dumps(document), encoding="utf-8")
    return [verdict.problem for verdict in judge(folder, **options) if verdict.problem is not None]


def test_the_runner_sees_a_wrong_answer(few: tuple[Path, dict[str, Any]]) -> None:
    folder, document = few
    assert problems(folder, document) == []
    answer, refusal = document["answers"][0], document["refusals"][0]
    swapped = [*answer["top"][1:], answer["top"][0]]
    assert "the best classes are" in problems(folder, {**document, "answers": [{**answer, "top": swapped}]})[0]
    renamed = [{**answer["outputs"][0], "name": "other"}]
    assert problems(folder, {**document, "answers": [{**answer, "outputs": renamed}]}) == ["outputs probabilities"]
    other = {**refusal, "code": "file-hash"}
    assert problems(folder, {**document, "refusals": [other]}) == ["file-missing, expected file-hash"]
    accepted = {**refusal, "bundle": "bundles/classes"}
    assert problems(folder, {**document, "refusals": [accepted]}) == ["accepted, expected file-missing"]
    version = [{**entry, "version": 4} for entry in document["bundles"] if entry["key"]]
    assert problems(folder, {**document, "bundles": version}) == ["version 3, expected 4"]
    values = np.load(folder / answer["outputs"][0]["npy"])
    values[0, 0] += 1e-3
    (folder / answer["outputs"][0]["npy"]).write_bytes(npy_from_array(values))
    assert problems(folder, document)[0].startswith("probabilities: the largest difference is 0.001")
    (folder / answer["inputs"][0]["npy"]).write_bytes(npy_from_array(np.zeros((1, 12, 10, 3), np.uint8)))
    assert "uint8" in problems(folder, document)[0]
    (folder / "bundles" / "classes" / "labels.txt").unlink()
    assert all("file-missing" in problem for problem in problems(folder, document))


def test_an_ability_that_a_runtime_lacks_is_skipped_by_its_name(few: tuple[Path, dict[str, Any]]) -> None:
    folder, document = few
    (folder / "expected.json").write_text(json.dumps(document), encoding="utf-8")
    able = ABLE["onnxruntime"] - {"signature"}
    skipped = [verdict for verdict in judge(folder, able=able) if verdict.skipped]
    assert [verdict.line(3) for verdict in skipped if verdict.skipped == "signature"] == [
        "ok 3 - bundles: bundles/classes same signed # SKIP signature"
    ]
    failed = dataclasses.replace(skipped[-1], problem="why", skipped=None)
    assert failed.line(3) == "not ok 3 - bundles: bundles/classes same signed: why"


def test_a_bundle_that_a_runtime_does_not_read_must_be_refused_by_its_code(few: tuple[Path, dict[str, Any]]) -> None:
    folder, document = few
    answer = {**document["answers"][0], "needs": ["onnx", "several-inputs", "png"]}
    able = ABLE["onnxruntime"] - {"several-inputs", "png"}
    told = problems(folder, {**document, "answers": [answer]}, able=able)
    assert told == ["accepted, expected not-one-picture"]
    manifest = folder / answer["bundle"] / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 5', '"schema": 6'))
    document = {**document, "bundles": document["bundles"][:1], "without": {"several-inputs": "unknown-schema"}}
    document["bundles"][0] = {**document["bundles"][0], "needs": ["several-inputs"]}
    assert problems(folder, {**document, "answers": [answer]}, able=able) == []
