"""Damaged and hostile bundles: each a clear error, from ``load`` and from ``check_bundle`` alike."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_bundle

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.errors import BundleError, EngineError, VerificationError
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.contents import npy_from_array
from xxdeploy.runtime.bundle.strict_json import MAX_BYTES

FILES = ("golden/inputs.npy", "golden/portable.npy", "labels.txt", "model.onnx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.make(tmp_path / "b")


def codes(bundle: Path) -> set[str]:
    """What both readers say; they must both refuse."""
    codes_seen = set()
    for read in (load, check_bundle):
        with pytest.raises(BundleError) as caught:
            read(bundle)
        assert caught.value.hint
        codes_seen.add(caught.value.code)
    return codes_seen


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = bundle / "manifest.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def replace(bundle: Path, name: str, content: bytes) -> None:
    """Replace a file and vouch for it in the manifest: what somebody with bad intentions would do."""
    (bundle / name).write_bytes(content)

    def change(manifest: dict[str, Any]) -> None:
        entry = next(entry for entry in manifest["files"] if entry["path"] == name)
        entry.update(sha256=hashlib.sha256(content).hexdigest(), size=len(content))

    edit(bundle, change)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [0, 0.5, -1])
def test_one_changed_bit(bundle: Path, name: str, at: float) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[int(at * len(content)) if at >= 0 else -1] ^= 1
    (bundle / name).write_bytes(content)
    assert codes(bundle) == {"file-hash"}


def test_one_changed_byte_of_the_manifest_is_never_another_network(bundle: Path) -> None:
    """No hash covers the manifest: a changed byte is refused, changes words for people, or fails the self-test."""
    file = bundle / "manifest.json"
    good = file.read_bytes()
    expected = load(bundle).probabilities(np.zeros((8, 8, 3), np.uint8))
    refused = 0
    for at in range(0, len(good), 7):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            runtime = load(bundle, selftest=True)
        except (BundleError, VerificationError):
            refused += 1
        else:
            assert np.allclose(runtime.probabilities(np.zeros((8, 8, 3), np.uint8)), expected, atol=1e-6)
    assert refused > 100


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 1, 100])
def test_cut_short(bundle: Path, name: str, size: int) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes()[: min(size, 70)])
    assert codes(bundle) == {"file-size"}


@pytest.mark.parametrize("name", FILES)
def test_grown(bundle: Path, name: str) -> None:
    with (bundle / name).open("ab") as file:
        file.write(b"\x00" * 10)
    assert codes(bundle) == {"file-size"}


def test_a_file_that_grew_to_the_size_of_a_disk_is_not_read(bundle: Path) -> None:
    with (bundle / "model.onnx").open("r+b") as file:
        file.truncate(1 << 42)  # sparse: takes no space
    assert codes(bundle) == {"file-size"}


@pytest.mark.parametrize("name", FILES)
def test_missing(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert codes(bundle) == {"file-missing"}


def test_no_bundle_at_all(tmp_path: Path, bundle: Path) -> None:
    assert codes(tmp_path / "absent") == {"bundle-not-found"}
    assert codes(tmp_path) == {"not-a-bundle"}
    assert codes(bundle / "manifest.json") == {"not-a-bundle"}
    assert codes(Path("nul\x00")) == {"bundle-not-found"}
    (bundle / "manifest.json").unlink()
    assert codes(bundle) == {"not-a-bundle"}


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "/dev/zero", "/proc/self/environ"])
@pytest.mark.parametrize("name", ["model.onnx", "golden", "manifest.json"])
def test_links_out_of_the_bundle(bundle: Path, name: str, target: str) -> None:
    (bundle.parent / "outside").write_bytes((bundle / "manifest.json").read_bytes())
    if (bundle / name).is_dir():
        shutil.copytree(bundle / name, bundle.parent / "folder")
        shutil.rmtree(bundle / name)
        (bundle / name).symlink_to(bundle.parent / "folder")  # with the right content, and still outside
    else:
        (bundle / name).unlink()
        (bundle / name).symlink_to(target)
    assert codes(bundle) <= {"file-outside", "file-missing", "not-a-bundle"}


def test_a_link_inside_the_bundle_is_no_harm(bundle: Path) -> None:
    (bundle / "golden" / "portable.npy").rename(bundle / "golden" / "real.npy")
    (bundle / "golden" / "portable.npy").symlink_to("real.npy")
    load(bundle, selftest=True)
    with pytest.raises(BundleError) as caught:
        check_bundle(bundle)  # the file behind the link is not listed
    assert caught.value.code == "file-extra"


def test_loops_and_other_things_than_files(bundle: Path) -> None:
    model = bundle / "model.onnx"
    model.unlink()
    model.symlink_to(model)
    assert codes(bundle) == {"file-missing"}
    model.unlink()
    model.mkdir()
    assert codes(bundle) == {"file-not-regular"}
    model.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(model)
        assert codes(bundle) == {"file-not-regular"}


@pytest.mark.parametrize("path", ["../b/model.onnx", "/etc/passwd", "golden/../model.onnx", "C:\\model.onnx"])
def test_paths_out_of_the_bundle(bundle: Path, path: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][3]["path"] = manifest["variants"][0]["model"] = path

    edit(bundle, change)
    assert codes(bundle) == {"manifest-path"}


def test_another_schema_is_named(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(schema=99, new_key="of the future"))
    assert codes(bundle) == {"unknown-schema"}


def test_a_huge_manifest_is_not_read_whole(bundle: Path) -> None:
    with (bundle / "manifest.json").open("r+b") as file:
        file.truncate(1 << 42)
    assert codes(bundle) == {"manifest-too-large"}
    (bundle / "manifest.json").write_bytes(b" " * (MAX_BYTES + 1))
    assert codes(bundle) == {"manifest-too-large"}


def test_huge_claims(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest["files"][3].update(size=1 << 40))
    assert codes(bundle) == {"file-size"}
    edit(bundle, lambda manifest: manifest.update(classes=999_999))
    assert codes(bundle) == {"file-size"}


def test_files_that_nobody_vouches_for(bundle: Path) -> None:
    (bundle / "golden" / "payload.so").write_bytes(b"\x7fELF")
    load(bundle)
    with pytest.raises(BundleError) as caught:
        check_bundle(bundle)
    assert caught.value.code == "file-extra"
    assert "golden/payload.so" in caught.value.message


def test_labels_that_are_vouched_for_and_wrong(bundle: Path) -> None:
    replace(bundle, "labels.txt", b"only one\n")
    assert codes(bundle) == {"labels-invalid"}
    replace(bundle, "labels.txt", b"\x1b]0;title\x07\n" * 10)
    assert codes(bundle) == {"labels-invalid"}


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("golden/inputs.npy", np.zeros((4, 8, 9, 3), np.uint8)),
        ("golden/inputs.npy", np.zeros((3, 8, 8, 3), np.uint8)),
        ("golden/inputs.npy", np.zeros((0, 8, 8, 3), np.uint8)),
        ("golden/inputs.npy", np.zeros((4, 8, 8, 3), np.float32)),
        ("golden/portable.npy", np.zeros((4, 11), np.float32)),
        ("golden/portable.npy", np.zeros(4, np.float32)),
        ("golden/portable.npy", np.full((4, 10), np.nan, np.float32)),
    ],
)
def test_golden_pairs_that_do_not_fit(bundle: Path, name: str, array: np.ndarray) -> None:
    replace(bundle, name, npy_from_array(array))
    for read in (check_bundle, lambda path: load(path, selftest=True)):
        with pytest.raises(BundleError) as caught:
            read(bundle)
        assert caught.value.code == "golden-invalid"


def test_a_pickle_is_never_opened(bundle: Path, tmp_path: Path) -> None:
    import pickle

    class Payload:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    for content in (pickle.dumps(Payload()), b"\x93NUMPY\x01\x00" + pickle.dumps(Payload())):
        replace(bundle, "golden/inputs.npy", content)
        for read in (check_bundle, lambda path: load(path, selftest=True)):
            with pytest.raises(BundleError) as caught:
                read(bundle)
            assert caught.value.code == "array-invalid"
    assert not (tmp_path / "executed").exists()


def test_a_model_that_is_vouched_for_and_damaged(bundle: Path) -> None:
    replace(bundle, "model.onnx", b"\x08\x08garbage")
    with pytest.raises(EngineError) as caught:
        load(bundle)
    assert caught.value.code == "engine-load"


def test_a_model_that_computes_something_else_fails_the_self_test(bundle: Path) -> None:
    replace(bundle, "model.onnx", tiny_bundle.model_bytes(seed=1))
    with pytest.raises(VerificationError) as caught:
        load(bundle, selftest=True)
    assert caught.value.code == "golden-mismatch"


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "ABSOLUTE"])
def test_weights_outside_the_model_file_are_not_read(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """ONNX may keep tensors in other files; nobody would have hashed those, and the path may lead anywhere."""
    (tmp_path / "weights.bin").write_bytes(b"\x00" * 4 * 30)
    (bundle / "weights.bin").write_bytes(b"\x00" * 4 * 30)
    model = onnx.load_model_from_string((bundle / "model.onnx").read_bytes())
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location.replace("ABSOLUTE", str(tmp_path / "weights.bin")))
    replace(bundle, "model.onnx", model.SerializeToString())
    monkeypatch.chdir(bundle)  # where an engine that is given bytes would look
    with pytest.raises(EngineError) as caught:
        load(bundle)
    assert caught.value.code == "engine-external-data"
