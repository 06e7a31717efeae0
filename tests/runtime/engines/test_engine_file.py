"""Engines on disk are read strictly, for they are code; with a key, only signed ones are loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import tiny_bundle
from codes import code_of

from xxdeploy.bundle.pack import pack
from xxdeploy.bundle.sign import generate_key, sign
from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.signature import trust
from xxdeploy.runtime.engines.engine_file import PLAN, RECORD, read_engine, record_from_json
from xxdeploy.runtime.engines.trt import TrtSession

EXAMPLE = {
    "schema": 1,
    "plan": {"sha256": "6e" * 32, "size": 4},
    "model_sha256": "ab" * 32,
    "target": "tensorrt-rtx",
    "version": "1.7",
    "options": {},
    "proof": {},
}


def engine_of(model: bytes, plan: bytes = b"a plan") -> dict[str, bytes]:
    record = {
        "schema": 1,
        "plan": {"sha256": hashlib.sha256(plan).hexdigest(), "size": len(plan)},
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "target": "tensorrt-rtx",
        "version": "1",
        "options": {"strip": True},  # so that TrtSession stops there, after every check of the files
        "proof": {},
    }
    return {RECORD: json.dumps(record).encode(), PLAN: plan}


def refused(bundle: Path, key: Path, **options: int) -> str:
    return code_of(TrtSession.from_bundle, bundle, key=key, **options)


def test_beside_the_bundle(tmp_path: Path) -> None:
    pair = generate_key(tmp_path / "k")
    bundle, folder = tiny_bundle.make(tmp_path / "b"), tmp_path / "b-engine"
    folder.mkdir()
    for name, content in engine_of((bundle / "model.onnx").read_bytes()).items():
        (folder / name).write_bytes(content)
    assert refused(bundle, pair.public) == "signature-missing"
    sign(bundle, pair.private, version=2)
    assert refused(bundle, pair.public) == "signature-missing", "the bundle's signature does not cover the engine"
    sign(folder, pair.private, version=2)
    assert refused(bundle, pair.public, min_version=2) == "engine-stripped"
    assert refused(bundle, pair.public, min_version=3) == "signature-old"
    read_engine(folder, trust=trust(pair.public))
    (folder / PLAN).write_bytes(b"A plan")
    assert refused(bundle, pair.public) == "file-hash"
    (folder / RECORD).write_bytes((folder / RECORD).read_bytes() + b" ")
    assert refused(bundle, pair.public) == "signature-wrong"
    # The signature of a manifest says nothing of an engine.
    (folder / RECORD).write_bytes((bundle / "manifest.json").read_bytes())
    (folder / "engine.sig").write_bytes((bundle / "manifest.sig").read_bytes())
    assert refused(bundle, pair.public) == "signature-wrong"


def test_a_damaged_engine_is_not_signed(tmp_path: Path) -> None:
    pair = generate_key(tmp_path / "k")
    for name, content in engine_of(b"model").items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / PLAN).write_bytes(b"A plan")
    with pytest.raises(BundleError) as caught:
        sign(tmp_path, pair.private, version=1)
    assert caught.value.code == "file-hash"


def test_inside_the_bundle_the_manifest_vouches_for_it(tmp_path: Path) -> None:
    pair = generate_key(tmp_path / "k")
    parts, manifest = tiny_bundle.parts_and_manifest()
    engine = {f"engine/{name}": content for name, content in engine_of(parts["model.onnx"]).items()}
    bundle = pack(manifest, {**parts, **engine}, tmp_path / "b")
    sign(bundle, pair.private, version=1)
    assert refused(bundle, pair.public) == "engine-stripped"
    changed = engine_of(parts["model.onnx"], b"B plan")  # right in itself, but not what the manifest lists
    for name, content in changed.items():
        (bundle / "engine" / name).write_bytes(content)
    assert refused(bundle, pair.public) == "file-hash"


def test_an_engine_that_the_manifest_does_not_list(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    bundle = pack(dataclasses.replace(manifest), parts, tmp_path / "b")
    (bundle / "engine").mkdir()
    for name, content in engine_of(parts["model.onnx"]).items():
        (bundle / "engine" / name).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        TrtSession.from_bundle(bundle)
    assert caught.value.code == "manifest-unlisted"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"target": "cuda"},
        {"plan": {"sha256": "../x", "size": 4}},
        {"plan": {"sha256": "6e" * 32, "size": -1}},
        {"plan": {"sha256": "6e" * 32}},
        {"version": 11},
        {"more": 1},
        {"options": []},
    ],
)
def test_a_record_is_read_strictly(change: dict[str, object]) -> None:
    assert record_from_json(json.dumps(EXAMPLE)).version == "1.7"
    with pytest.raises(BundleError):
        record_from_json(json.dumps({**EXAMPLE, **change}))


def test_a_plan_is_loaded_only_if_its_hash_is_right(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read_engine(tmp_path)
    assert caught.value.code == "no-engine"
    (tmp_path / "engine.json").write_text(json.dumps(EXAMPLE))
    (tmp_path / "engine.plan").write_bytes(b"evil")
    with pytest.raises(BundleError) as caught:
        read_engine(tmp_path)
    assert caught.value.code == "file-hash"
