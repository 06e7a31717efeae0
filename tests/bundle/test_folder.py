"""The question before the work: may a bundle be written there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import tiny_bundle
from codes import code_of

from xxdeploy.bundle.folder import extra_files, output_error, output_writable
from xxdeploy.runtime.bundle.files import open_bundle


def test_a_new_folder_is_asked_for_and_not_made(tmp_path: Path) -> None:
    output_writable(tmp_path / "a" / "b", False)
    output_writable(tmp_path / "a" / "b", True)
    assert not list(tmp_path.iterdir())


def test_what_exists_needs_force_and_must_be_a_bundle(tmp_path: Path) -> None:
    bundle, empty, folder, file = (tmp_path / name for name in ("bundle", "empty", "folder", "file"))
    tiny_bundle.make(bundle)
    empty.mkdir()
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    file.write_text("text")
    for out in (bundle, empty, folder, file):
        assert code_of(output_writable, out, False) == "output-exists"
    output_writable(bundle, True)
    output_writable(empty, True)
    assert code_of(output_writable, folder, True) == "output-not-a-bundle"
    assert code_of(output_writable, file, True) == "output-not-a-bundle"
    assert code_of(output_writable, tmp_path, True) == "output-not-a-bundle"
    assert code_of(output_writable, "/", True) == "output-not-a-bundle"


def test_a_bundle_with_somebodys_file_in_it_is_not_replaced(tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    (bundle / "golden" / "notes.txt").write_text("mine")
    assert code_of(output_writable, bundle, True) == "output-not-a-bundle"
    (bundle / "golden" / "notes.txt").unlink()
    (bundle / "link").symlink_to(tmp_path)
    assert extra_files(*open_bundle(bundle)) == ["link"]
    assert code_of(output_writable, bundle, True) == "output-not-a-bundle"


def test_a_web_manifest_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "my web page", "icons": []}')
    assert code_of(output_writable, tmp_path, True) == "output-not-a-bundle"


def test_a_damaged_bundle_may_be_replaced(tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    (bundle / "model.onnx").write_bytes(b"damaged")
    (bundle / "labels.txt").unlink()
    output_writable(bundle, True)


def test_unwritable_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    assert code_of(output_writable, tmp_path / "file" / "b", False) == "output-unwritable"
    assert code_of(output_writable, "nul\x00", False) == "output-unwritable"
    assert code_of(output_writable, tmp_path / ("x" * 300), False) == "output-unwritable"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert code_of(output_writable, tmp_path / "loop", False) in ("output-unwritable", "output-exists")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert code_of(output_writable, tmp_path / "b", False) == "output-unwritable"


def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    try:
        assert code_of(output_writable, tmp_path / "b", False) == "output-unwritable"
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_so(number: int) -> None:
    assert output_error("out", OSError(number, "full")).code == "disk-full"
