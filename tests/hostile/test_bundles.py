"""Damaged and hostile bundles: each is one of our errors, before an engine sees a byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import parts_and_manifest

from xxdeploy.bundle.check import check_bundle
from xxdeploy.bundle.pack import pack
from xxdeploy.errors import BundleError
from xxdeploy.runtime import load


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    parts, manifest = parts_and_manifest()
    return pack(manifest, parts, tmp_path / "bundle")


def files(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json")


def refused(bundle: Path, *codes: str) -> None:
    for entry in (load, check_bundle):
        with pytest.raises(BundleError) as caught:
            entry(bundle)
        assert caught.value.code in codes


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_one_changed_bit_in_any_file_is_found(bundle: Path) -> None:
    for path in files(bundle):
        data = path.read_bytes()
        for position in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            refused(bundle, "file-hash")
        path.write_bytes(data)
    load(bundle, selftest=True)


def test_missing_short_and_long_files(bundle: Path) -> None:
    for path in files(bundle):
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        refused(bundle, "file-size")
        path.write_bytes(data + b"x")
        refused(bundle, "file-size")
        path.unlink()
        refused(bundle, "file-missing")
        path.write_bytes(data)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "a\\b", "", ".", "a//b", "\u202ecod", "manifest.json"]
)
def test_paths_that_leave_the_bundle(bundle: Path, path: str) -> None:
    edit(bundle, lambda document: document["files"][0].update(path=path))
    refused(bundle, "manifest-path")


def test_links_that_leave_the_bundle(bundle: Path, tmp_path: Path) -> None:
    path = files(bundle)[0]
    outside = tmp_path / "outside"
    outside.write_bytes(path.read_bytes())  # the right bytes, in the wrong place
    path.unlink()
    path.symlink_to(outside)
    refused(bundle, "file-outside", "file-not-regular")


def test_other_schemas_keys_and_values(bundle: Path) -> None:
    original = (bundle / "manifest.json").read_text()
    cases: list[tuple[Callable[[dict[str, Any]], None], str]] = [
        (lambda d: d.update(schema=2), "unknown-schema"),
        (lambda d: d.update(extra=1), "manifest-keys"),
        (lambda d: d.pop("golden"), "manifest-keys"),
        (lambda d: d.update(classes=-1), "manifest-value"),
        (lambda d: d.update(classes=10**30), "manifest-value"),
        (lambda d: d["files"][0].update(size=-5), "manifest-value"),
        (lambda d: d["files"][0].update(sha256="0"), "manifest-value"),
        (lambda d: d.update(variants=[]), "manifest-value"),
        (lambda d: d.update(files=d["files"] + d["files"][:1]), "manifest-duplicate"),
        (lambda d: d.update(files=d["files"][1:]), "manifest-unlisted"),
    ]
    for change, code in cases:
        (bundle / "manifest.json").write_text(original)
        edit(bundle, change)
        refused(bundle, code)


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 100_000, '{"schema": NaN}', '{"a": 1, "a": 2}', "\x00\xff"])
def test_manifests_that_are_no_manifest(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text, encoding="latin-1")
    refused(bundle, "manifest-json", "manifest-keys", "manifest-value", "manifest-text", "unknown-schema")


def test_random_damage_of_the_manifest_never_escapes_our_errors(bundle: Path) -> None:
    path = bundle / "manifest.json"
    original = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(original)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            data[position] = random.integers(0, 256)
        path.write_bytes(data[: random.integers(1, len(data) + 1)] if random.random() < 0.3 else data)
        try:
            check_bundle(bundle)
        except BundleError:
            continue


def test_unlisted_files_are_reported_by_the_check_and_ignored_by_load(bundle: Path) -> None:
    (bundle / "readme.txt").write_text("mine")
    load(bundle)
    with pytest.raises(BundleError) as caught:
        check_bundle(bundle)
    assert caught.value.code == "file-extra"


def test_what_is_no_bundle_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "not-a-bundle")
    refused(tmp_path / "absent", "bundle-not-found")
